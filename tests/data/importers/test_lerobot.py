"""LeRobot data sets: every episode gets its own rows and frames, however these lie in files."""

from __future__ import annotations

import json
import sys

import gymnasium as gym
import numpy as np
import pytest

from lssvwm_rl.cli import main
from lssvwm_rl.data.importers import lerobot
from lssvwm_rl.data.importers.formats import format_of, open_recording
from lssvwm_rl.data.importers.options import ImportOptions
from lssvwm_rl.data.importers.recording import write_recording
from lssvwm_rl.data.store import EpisodeStore
from support.recordings import shades, write_lerobot

LENGTHS = (5, 4, 6)


def imported(source, out, **options):
    assert format_of(source) == "lerobot"
    return write_recording(open_recording(source, "lerobot", ImportOptions(**options)), out)


@pytest.mark.parametrize("videos", [(), ((0, 1), (2,)), ((2, 0), (1,)), ((),)], ids=["one", "two", "mixed", "in rows"])
def test_frames_and_rows_of_each_episode(tmp_path, videos):
    store = imported(write_lerobot(tmp_path / "l", LENGTHS, videos), tmp_path / "store")
    assert store.lengths.tolist() == [n - 1 for n in LENGTHS], "the last action leads to no frame"
    assert store.header.vector_keys == {"observation.state": 2} and store.header.policy == "offline lerobot"
    for i, (episode, n) in enumerate(zip(store, LENGTHS, strict=True)):
        assert shades(episode.frames) == [40 * i + 5 * t for t in range(n)]
        np.testing.assert_array_equal(episode.actions, np.float32([[0.1 * t, -i] for t in range(n - 1)]))
        assert episode.rewards.tolist() == [0.0] * (n - 2) + [1.0]
        assert episode.vectors.tolist() == [[i, t] for t in range(n)]
        assert episode.truncated and not episode.terminated


def test_a_video_is_decoded_once(tmp_path, monkeypatch):
    opened = []
    own = lerobot.timed_frames
    monkeypatch.setattr(lerobot, "timed_frames", lambda path: opened.append(path) or own(path))
    source = write_lerobot(tmp_path / "l", [3] * 20, fps=30)
    store = imported(source, tmp_path / "store")
    assert len(store) == 20 and len(opened) == 2, "once for the size of frames, once for all episodes"


def test_a_reward_of_the_last_action_is_said(tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    source = write_lerobot(tmp_path / "l", [3, 3])
    path = next((source / "data").rglob("*.parquet"))
    table = pq.read_table(path)
    at = table.schema.get_field_index("next.reward")
    pq.write_table(table.set_column(at, "next.reward", [[0.0, 0.0, 2.0, 0.0, 0.0, 3.0]]), path)
    with pytest.warns(RuntimeWarning, match="With the last actions of the episodes, rewards of 5 in all"):
        assert imported(source, tmp_path / "store").rewards().tolist() == [0, 0, 0, 0]


def test_one_of_several_cameras_is_named(tmp_path, capsys):
    source = write_lerobot(tmp_path / "l", LENGTHS)
    info = json.loads((source / "meta/info.json").read_text())
    info["features"]["observation.images.wrist"] = info["features"]["observation.images.front"]
    (source / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(
        ValueError, match="cameras observation.images.front, observation.images.wrist; say which one with"
    ):
        imported(source, tmp_path / "store")
    with pytest.raises(ValueError, match="no camera 'top', only observation.images.front"):
        imported(source, tmp_path / "store", image="top")
    with pytest.raises(ValueError, match="no feature 'force', only"):
        imported(source, tmp_path / "store", image="observation.images.front", vector=("force",))
    words = ["--image", "observation.images.front", "--resize", "16", "24", "--vector"]
    main(["data", "import", str(source), "--out", str(tmp_path / "store"), *words])
    said = capsys.readouterr().out
    assert "Image: observation.images.front; Actions: Box(2,) of 0..0.4, -2..-0, from action; " in said
    assert "The last action of each episode is left out: the frame that it led to was not recorded" in said
    header = EpisodeStore(tmp_path / "store").header
    assert header.frame_shape == (16, 24, 3) and header.vector_keys == {}


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    source = write_lerobot(tmp_path / "l", LENGTHS)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(gym.error.DependencyNotInstalled, match=r'pip install "lssvwm-rl\[parquet\]"'):
        imported(source, tmp_path / "store")
