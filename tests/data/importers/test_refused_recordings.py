"""What is wrong with a recording is one sentence that names the file, and no store is left behind."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lssvwm_rl.data.importers.formats import open_recording
from lssvwm_rl.data.importers.options import ImportOptions
from lssvwm_rl.data.importers.recording import write_recording
from support.recordings import coded, refused, write_episode, write_frames, write_table


def cut(folder):
    write_episode(folder, "ep0", 20)
    path = folder / "ep0.mp4"
    path.write_bytes(path.read_bytes()[:700])


def without_its_end(folder):
    """Its index, at the beginning, speaks of frames that are gone."""
    write_episode(folder, "ep0", 60)
    noise = np.random.default_rng(0).integers(0, 256, (61, 32, 48, 3), np.uint8)
    path = write_frames(folder / "ep0.mp4", noise, movflags="faststart")
    path.write_bytes(path.read_bytes()[:-200])


def garbage(folder):
    write_episode(folder, "ep0", 3)
    (folder / "ep0.mp4").write_bytes(b"no video" * 40)


def table(**columns):
    def make(folder):
        write_episode(folder, "ep0", 4, **columns)

    return make


def rows(count):
    def make(folder):
        write_frames(folder / "ep0.mp4", coded(4))
        write_table(folder / "ep0.csv", {"action": [0] * count})

    return make


def text(content, name="ep0.csv"):
    def make(folder):
        write_frames(folder / "ep0.mp4", coded(2))
        (folder / name).write_text(content)

    return make


def cut_in_its_middle(folder):
    noise = np.random.default_rng(0).integers(0, 256, (41, 32, 48, 3), np.uint8)
    path = write_frames(folder / "ep0.mp4", noise, movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    write_table(folder / "ep0.csv", {"action": [0, 1] * 20})


def no_archive(folder):
    folder.mkdir()
    (folder / "ep0.npz").write_bytes(b"PK nothing")


def another_size(folder):
    write_episode(folder, "ep0", 3)
    write_frames(folder / "ep1.mp4", coded(3, (48, 48)))
    write_table(folder / "ep1.csv", {"action": [0, 1, 2]})


def images_of_two_sizes(folder):
    (folder / "ep0").mkdir(parents=True)
    for t, size in enumerate([(8, 8), (8, 8), (8, 9)]):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(folder / f"ep0/{t}.png")
    write_table(folder / "ep0.csv", {"action": [0, 1]})


def broken_image(folder):
    images_of_two_sizes(folder)
    (folder / "ep0/1.png").write_bytes(b"nothing")


def other_width(folder):
    write_episode(folder, "ep0", 3)
    write_frames(folder / "ep1.mp4", coded(2))
    write_table(folder / "ep1.jsonl", {"action": [[0, 1], [1, 1]]})


def only_sound(folder):
    import av

    folder.mkdir()
    write_table(folder / "ep0.csv", {"action": [0, 1]})
    with av.open(str(folder / "ep0.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        for packet in stream.encode(silent_frame()):
            container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def silent_frame():
    import av

    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
    frame.sample_rate = 44100
    return frame


def rewards_in_one_table(folder):
    write_episode(folder, "ep0", 3)
    write_episode(folder, "ep1", 3, reward=[0, 0, 1])


def a_link_to_nothing(folder):
    images_of_two_sizes(folder)
    (folder / "ep0/2.png").unlink()
    (folder / "ep0/2.png").symlink_to(folder / "gone.png")


def bytes_of(content, name="ep0.csv"):
    def make(folder):
        write_frames(folder / "ep0.mp4", coded(2))
        (folder / name).write_bytes(content)

    return make


def sound(folder):
    folder.mkdir()
    (folder / "ep0.wav").write_bytes(b"")


def alone(folder):
    write_episode(folder, "ep0", 3)
    write_table(folder / "ep1.csv", {"action": [0]})


def both(folder):
    write_episode(folder, "ep0", 3)
    write_table(folder / "ep0.jsonl", {"action": [0, 1, 2]})


BAD = {
    "cut": (cut, "ep0.mp4 cannot be"),
    "without its end": (without_its_end, "frames, and its table is for 61; record or copy that file again."),
    "garbage": (garbage, "ep0.mp4 cannot be read as a video"),
    "no table": (lambda f: write_frames(f / "ep0.mp4", coded(2)), "There is no table of the actions of"),
    "two tables": (both, "There are both ep0.csv and ep0.jsonl beside"),
    "no video": (alone, "There are no frames for"),
    "too many rows": (rows(9), "ep0.csv has 9 rows for the 5 frames of"),
    "too few rows": (rows(2), "write one for each action, 4, or one for each frame, 5."),
    "no rows": (rows(0), "ep0.csv has no rows"),
    "no action": (text("move,reward\n1,0\n2,0\n"), "has no column 'action', only move, reward"),
    "empty action": (table(action=[1, "", 2, 0]), "'action' of row 1 of"),
    "a word": (table(action=[1, "up", 2, 0]), "is 'up'; write a number."),
    "a reward that is none": (table(reward=[0, "nan", 0, 0]), "The reward of step 1 of"),
    "an infinite reward": (table(reward=[0, 0, 0, "inf"]), "The reward of step 3 of"),
    "an action that is none": (table(action=[0.5, "nan", 0.5, 1.5]), "The action of step 1 of"),
    "an empty reward": (table(reward=[0, "", 0, 0]), "'reward' of row 1 of"),
    "an early end": (table(terminated=[0, 1, 0, 0]), "Row 1 of"),
    "no truth": (table(truncated=[0, 0, 0, "maybe"]), "is 'maybe'; write true or false."),
    "ragged": (text("action,reward\n1,0\n2\n"), "row 1 has 1 values for 2 columns"),
    "no JSON": (text('{"action": 1}\n{"action"\n', "ep0.jsonl"), "line 2 is no JSON"),
    "rewards in some rows": (text('{"action": 1}\n{"action": 1, "reward": 2}\n', "ep0.jsonl"), "has no 'reward'"),
    "too large": (text("action\n1\n99999999999999999999999\n"), "has more than 64 bits"),
    "another size": (another_size, "is 48x48 pixels, the frames before are 32x48; bring all to one size with --resize"),
    "sizes of images": (images_of_two_sizes, "Frame 2 of"),
    "a broken image": (broken_image, "1.png cannot be read as an image"),
    "another width": (other_width, "are 2 numbers, those of"),
    "only sound": (only_sound, "ep0.mp4 has no pictures; remove it, or give the video."),
    "cut in its middle": (cut_in_its_middle, "is cut off: it announces 41 frames, and "),
    "no UTF-8": (bytes_of("action\n1\n2\n".encode("utf-16")), "ep0.csv is no text in UTF-8 (byte 0); save it as such."),
    "an empty list": (text('{"action": []}\n' * 2, "ep0.jsonl"), "'action' of row 0 of"),
    "lists of rewards": (
        text('{"action": 1, "reward": [1, 2]}\n' * 2, "ep0.jsonl"),
        "is 2 numbers in a row; write one.",
    ),
    "an empty list of rewards": (text('{"action": 1, "reward": []}\n' * 2, "ep0.jsonl"), "is an empty list"),
    "depths": (text("[" * 100_000, "ep0.jsonl"), "line 1 is no JSON"),
    "a line between digits": (text("action\n1_0\n1\n"), "is '1_0'; write a number."),
    "too many actions": (table(action=[0, 2**62, 0, 1]), "number them from 0"),
    "a whole range": (table(action=[-(2**63), 2**63 - 1, 0, 1]), "18,446,744,073,709,551,616 different actions"),
    "beyond float32": (table(reward=[0, 1e300, 0, 0]), "The reward of step 1 of"),
    "an action beyond float32": (table(action=[0.5, 1e300, 0.5, 1]), "The action of step 1 of"),
    "rewards in some tables": (rewards_in_one_table, "ep0.csv has none; write it into all or none."),
    "a link to nothing": (a_link_to_nothing, "2.png cannot be read (No such file or directory)"),
    "no archive": (no_archive, "it is no NPZ archive, or was cut off"),
    "nothing known": (sound, "holds nothing that can be imported"),
    "empty": (lambda f: f.mkdir(), "holds nothing that can be imported"),
    "missing": (lambda f: None, "There is nothing at"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_sentence_and_nothing_left_behind(name, tmp_path, capsys):
    make, said = BAD[name]
    make(tmp_path / "source")
    refused(tmp_path, capsys, said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "video", "--image", "front"), "--image is not for the format video; leave it out."),
        (("--format", "mpeg"), "Format 'mpeg' is unknown; use one of lerobot, minari, npz, video."),
        (("--resize", "0", "8"), "Frames cannot be resized to 0x8"),
        (("--vector", "pose"), "and vectors need a row for each"),
        (("--action-column", "turn"), "has no column 'turn' in row 0, only action"),
        (("--actions", "2"), "There are actions up to 2, so --actions must be at least 3, not 2."),
    ],
)
def test_options_that_do_not_fit(words, said, tmp_path, capsys):
    write_episode(tmp_path / "source", "ep0", 4)
    refused(tmp_path, capsys, said, *words)


def test_an_interrupted_import_leaves_nothing(tmp_path):
    for k in range(3):
        write_episode(tmp_path / "source", f"ep{k}", 4)
    taken = []

    def stop(episode):
        taken.append(episode)
        if len(taken) == 2:
            raise KeyboardInterrupt

    recording = open_recording(tmp_path / "source", "video", ImportOptions())
    with pytest.raises(KeyboardInterrupt):
        write_recording(recording, tmp_path / "store", stop)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert len(write_recording(recording, tmp_path / "store")) == 3


def test_what_is_there_stays(tmp_path, capsys):
    write_episode(tmp_path / "source", "ep0", 4)
    (tmp_path / "out/store").mkdir(parents=True)
    (tmp_path / "out/store/mine").write_text("mine")
    refused(tmp_path, capsys, "exists already; choose another --out or remove it.")
    assert (tmp_path / "out/store/mine").read_text() == "mine"


def test_copies_of_one_recording_are_named(tmp_path):
    """As one may be held out while the other is trained on."""
    for k, number in enumerate((0, 1, 0)):
        write_episode(tmp_path / "source", f"ep{k}", 4, number=number)
    recording = open_recording(tmp_path / "source", "video", ImportOptions())
    with pytest.warns(RuntimeWarning, match="Episodes 0 and 2 are the same, frame by frame, and 1 in all"):
        assert len(write_recording(recording, tmp_path / "store")) == 3


def test_what_other_systems_leave_beside_recordings_is_passed_over(tmp_path):
    write_episode(tmp_path / "source", "ep0", 4)
    (tmp_path / "source/._ep0.mp4").write_bytes(b"no video")
    (tmp_path / "source/.ipynb_checkpoints").mkdir()
    (tmp_path / "source/.ipynb_checkpoints/ep0-checkpoint.csv").write_text("action\n0\n")
    assert open_recording(tmp_path / "source", "video", ImportOptions()).count == 1


@pytest.mark.parametrize("line", ["\n", "\r\n", "\r"])
def test_tables_as_spreadsheets_write_them(line, tmp_path):
    """With a byte order mark, lines of any system, and cells with breaks in them."""
    write_frames(tmp_path / "source/ep0.mp4", coded(2))
    rows = ["action,note,reward", f'0,"two{line}lines",1.5', "2,\x0bfeed,0"]
    (tmp_path / "source/ep0.csv").write_bytes(b"\xef\xbb\xbf" + line.join(rows).encode())
    (episode,) = open_recording(tmp_path / "source", "video", ImportOptions()).episodes(0)
    assert episode.actions.tolist() == [0, 2] and episode.rewards.tolist() == [1.5, 0.0]
