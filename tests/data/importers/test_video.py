"""Videos and folders of images with a table each: which action leads from which frame, and which space they are of."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from lssvwm_rl.cli import main
from lssvwm_rl.data.importers.actions import inferred_space, space_sentence
from lssvwm_rl.data.importers.formats import format_of, open_recording
from lssvwm_rl.data.importers.frames import FrameRule, timed_frames, video_frames
from lssvwm_rl.data.importers.options import ImportOptions
from lssvwm_rl.data.importers.recording import write_recording
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.spaces import space_from_json
from support.recordings import FFV1, coded, shades, write_episode, write_frames, write_table


def imported(source, out, **options):
    return write_recording(open_recording(source, format_of(source), ImportOptions(**options)), out)


def test_actions_between_frames(tmp_path):
    """Names are in the order of their numbers, and every frame is that of its time."""
    for number, name in enumerate(["ep2", "ep10", "ep9"]):
        write_episode(tmp_path / "v", name, 4 + number, number, reward=[0.5 * t for t in range(4 + number)])
    store = imported(tmp_path / "v", tmp_path / "store")
    assert store.lengths.tolist() == [4, 6, 5], "ep2, ep9, ep10"
    for episode, number in zip(store, (0, 2, 1), strict=True):
        steps = len(episode)
        assert shades(episode.frames) == [40 * number + 5 * t for t in range(steps + 1)]
        assert episode.actions.tolist() == [t % 3 for t in range(steps)] and episode.actions.dtype == np.int64
        assert episode.rewards.tolist() == [0.5 * t for t in range(steps)]
        assert episode.truncated and not episode.terminated and episode.seed is None
    assert store.header.frame_shape == (32, 48, 3) and store.header.policy == "offline video"
    assert store.header.env_spec is None and space_from_json(store.header.action_space) == spaces.Discrete(3)


@pytest.mark.parametrize(
    ("rows", "actions", "rewards"), [("taken-at", [5, 6, 7], [0.0, 1.0, 2.0]), ("led-to", [6, 7, 8], [1.0, 2.0, 3.0])]
)
def test_a_row_for_each_frame_is_what_is_done_there_or_what_led_there(tmp_path, rows, actions, rewards):
    write_frames(tmp_path / "v/a.mp4", coded(3))
    write_table(tmp_path / "v/a.csv", {"action": [5, 6, 7, 8], "reward": [0, 1, 2, 3], "x": [0.5, 1.5, 2.5, 3.5]})
    if rows == "taken-at":
        with pytest.warns(RuntimeWarning, match="last rows of 1 episodes, with rewards of 3 in all, are left out"):
            episode = imported(tmp_path / "v", tmp_path / "store", rows=rows, vector=("x",))[0]
    else:
        episode = imported(tmp_path / "v", tmp_path / "store", rows=rows, vector=("x",))[0]
    assert shades(episode.frames) == [0, 5, 10, 15]
    assert episode.actions.tolist() == actions and episode.rewards.tolist() == rewards
    assert episode.vectors.tolist() == [[0.5], [1.5], [2.5], [3.5]], "of each frame, whatever rows mean"


def test_a_last_row_without_an_action_is_of_the_last_frame(tmp_path):
    write_frames(tmp_path / "v/a.mp4", coded(2))
    write_table(tmp_path / "v/a.csv", {"action": [1, 0, ""], "reward": [0, 2, ""], "terminated": ["", "", "true"]})
    episode = imported(tmp_path / "v", tmp_path / "store")[0]
    assert episode.actions.tolist() == [1, 0] and episode.rewards.tolist() == [0, 2]
    assert episode.terminated and not episode.truncated


def folder_of_images(path, frames):
    path.mkdir(parents=True)
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(path / f"{t}.png")  # 10.png comes after 9.png


def gif(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = [Image.fromarray(frame[..., 0]) for frame in frames]
    first.save(path, save_all=True, append_images=others, duration=100)


@pytest.mark.parametrize("kind", ["avi", "gif", "images"])
def test_frames_without_loss_come_back_as_they_were(tmp_path, kind):
    """AVI with FFV1, whose colours are those that were written; GIF with its palette; PNG files."""
    frames = coded(11)
    if kind == "avi":
        frames = np.random.default_rng(0).integers(0, 256, frames.shape, np.uint8)
        write_frames(tmp_path / "v/a.avi", frames, **FFV1)
    elif kind == "gif":
        gif(tmp_path / "v/a.gif", frames)
    else:
        folder_of_images(tmp_path / "v/a", frames)
    write_table(tmp_path / "v/a.jsonl", {"action": [[0.1 * t, 2] for t in range(11)]})
    store = imported(tmp_path / "v", tmp_path / "store")
    np.testing.assert_array_equal(store[0].frames, frames)
    space = space_from_json(store.header.action_space)
    # Numbers of 0 to 1, and one that never changes, which gets a range since models divide by it.
    assert space == spaces.Box(np.float32([0.0, 1.5]), np.float32([1.0, 2.5]))
    np.testing.assert_array_equal(store[0].actions, np.float32([[0.1 * t, 2] for t in range(11)]))
    assert store[0].rewards.tolist() == [0] * 11


def test_a_picture_beside_recordings_is_none_of_them(tmp_path):
    write_episode(tmp_path / "v", "ep0", 3)
    Image.fromarray(coded(1)[0]).save(tmp_path / "v" / "logo.png")
    folder_of_images(tmp_path / "v" / "ep1", coded(4))
    write_table(tmp_path / "v" / "ep1.jsonl", {"action": [1, 2, 0, 1]})
    assert imported(tmp_path / "v", tmp_path / "store").lengths.tolist() == [3, 4]


def test_one_file_is_one_episode_and_frames_are_resized_by_means(tmp_path):
    frames = np.zeros((4, 32, 48, 3), np.uint8)
    frames[:, ::2] = 200
    write_frames(tmp_path / "a.avi", frames, **FFV1)
    write_table(tmp_path / "a.csv", {"turn left": [0, 1, 0], "jump": [1, 1, 3]})
    store = imported(tmp_path / "a.avi", tmp_path / "store", resize=(16, 24), action_column=("turn left", "jump"))
    assert store[0].frames.shape == (4, 16, 24, 3) and (store[0].frames == 100).all()
    assert space_from_json(store.header.action_space) == spaces.MultiDiscrete([2, 4])
    assert store[0].actions.tolist() == [[0, 1], [1, 1], [0, 3]]


def test_columns_that_begin_with_action_stand_side_by_side(tmp_path):
    write_frames(tmp_path / "v/a.mp4", coded(2))
    write_table(tmp_path / "v/a.csv", {"action_x": [0.5, -1], "reward": [0, 1], "action_y": [2, 3.0], "other": [7, 7]})
    store = imported(tmp_path / "v", tmp_path / "store")
    assert store[0].actions.tolist() == [[0.5, 2], [-1, 3]]
    assert space_from_json(store.header.action_space) == spaces.Box(np.float32([-1, 2]), np.float32([0.5, 3]))


def test_spaces_hold_the_actions_and_no_more():
    assert inferred_space([np.array([[0], [4]]), np.array([[1]])]) == spaces.Discrete(5)
    assert inferred_space([np.array([[0], [4]])], 9) == spaces.Discrete(9)
    assert inferred_space([np.array([[-1], [1]])]) == spaces.Discrete(3, start=-1)
    assert inferred_space([np.array([[-1, 3]])]) == spaces.MultiDiscrete([1, 4], start=[-1, 0])
    mixed = inferred_space([np.array([[0]]), np.array([[0.25]])])
    assert mixed == spaces.Box(0, 0.25, (1,)), "one episode of whole numbers does not make them counted"
    with pytest.raises(ValueError, match="--actions must be at least 5, not 3"):
        inferred_space([np.array([[4]])], 3)
    with pytest.raises(ValueError, match="leave it out"):
        inferred_space([np.array([[0.5]])], 3)
    assert space_sentence(spaces.Box(-1, 2, (9,))) == "Box(9,) within [-1, 2]"


def test_long_videos_are_read_frame_by_frame(tmp_path):
    """What is held is what was asked for: a generator, whose frames are decoded one after the other."""
    path = write_frames(tmp_path / "a.mp4", coded(40, number=1), fps=20)
    frames = timed_frames(path)
    assert [round(time, 2) for time, _ in (next(frames) for _ in range(3))] == [0.0, 0.05, 0.1]
    assert shades(np.stack([frame for _, frame in frames])) == [40 + 5 * t for t in range(3, 41)]
    rule = FrameRule((32, 48, 3))
    with pytest.raises(ValueError, match=r"frames of a.mp4 take .* GB .* --resize H W"):
        rule.collect(video_frames(path), 10**12, "a.mp4")


def test_the_command_says_what_it_found(tmp_path, capsys):
    write_episode(tmp_path / "v", "ep0", 5)
    main(["data", "import", str(tmp_path / "v"), "--out", str(tmp_path / "store"), "--actions", "4"])
    said = capsys.readouterr().out
    assert "Actions: Discrete(4), from action; There is no column 'reward': all rewards are 0." in said
    assert "1 episodes, 5 steps" in said and str(tmp_path / "store") in said and "lssvwm train --data" in said
    assert len(EpisodeStore(tmp_path / "store")) == 1
