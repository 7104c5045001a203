"""What is wrong with a recording is one sentence that names the file, and no store is left behind."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lssvwm_rl.cli import main
from lssvwm_rl.data.importers.formats import open_recording
from lssvwm_rl.data.importers.options import ImportOptions
from lssvwm_rl.data.importers.recording import write_recording
from support.recordings import coded, write_episode, write_frames, write_lerobot, write_table


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
    "nothing known": (sound, "holds nothing that can be imported"),
    "empty": (lambda f: f.mkdir(), "holds nothing that can be imported"),
    "missing": (lambda f: None, "There is nothing at"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_sentence_and_nothing_left_behind(name, tmp_path, capsys):
    make, said = BAD[name]
    make(tmp_path / "source")
    refused(tmp_path, capsys, said)


def refused(tmp_path, capsys, said, *words):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        main(["data", "import", str(tmp_path / "source"), "--out", str(tmp_path / "out/store"), *words])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and said in error
    assert error.count("\n") == 1 and "Traceback" not in error and error.startswith("lssvwm data import: ")
    left = [path for path in tmp_path.rglob("*") if path not in before and path.name != "out"]
    assert not left, "nothing is half-written"


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


def lerobot_without(root, name):
    write_lerobot(root, [4, 3])
    next(root.rglob(name)).unlink()


def lerobot_lengths(root):
    """Episode tables that claim a frame more than there are rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_lerobot(root, [4, 3])
    path = next((root / "meta/episodes").rglob("*.parquet"))
    found = pq.read_table(path).to_pylist()
    found[1]["length"] += 1
    pq.write_table(pa.Table.from_pylist(found), path)


def lerobot_short_video(root):
    write_lerobot(root, [4, 3])
    write_frames(next(root.rglob("*.mp4")), coded(5), fps=10)


def lerobot_broken(root):
    write_lerobot(root, [4])
    (root / "meta/info.json").write_text("{")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: write_lerobot(root, [3], version="v2.1"), "is a LeRobot data set of version v2.1, and v3.0"),
        (lambda root: lerobot_without(root, "*.mp4"), "file-000.mp4, where episode 0 should be; copy it there."),
        (lerobot_lengths, "has 3 rows of episode 1, which has 4 frames"),
        (lerobot_short_video, "has 2 frames of episode 1 of"),
        (lambda root: write_lerobot(root, [3, 1]), "has no two frames"),
        (lerobot_broken, "info.json cannot be read"),
    ],
)
def test_lerobot_data_sets_that_cannot_be_read(make, said, tmp_path, capsys):
    make(tmp_path / "source")
    refused(tmp_path, capsys, said)
