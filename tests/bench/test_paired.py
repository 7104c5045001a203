"""The shipped checkpoint is right about both of two histories, and the command leaves all files."""

from __future__ import annotations

import json

import imageio.v3 as iio
import pytest

from lssvwm_envs.paired.record import record_pairs
from lssvwm_envs.paired.twins import TwinConfig
from lssvwm_rl.cli import main
from lssvwm_rl.data.pairs import Pair
from lssvwm_rl.measures.paired import measure_pairs
from lssvwm_rl.model.checkpoints import load_world_model

MEMORY = "MiniGrid-MemoryS7-v0"


def test_the_shipped_checkpoint_answers_from_its_memory():
    """In worlds that nothing else was measured on, and after agreement beyond the reach of all its windows."""
    pairs = record_pairs(MEMORY, {}, 40, first=3_000_000)
    shares = measure_pairs(load_world_model("minigrid-memory"), pairs)
    for each in (shares.reward, shares.frames):
        assert each is not None and each.pairs == 40
        assert each.right >= 0.95 and each.exchanged >= 0.95
        assert 0.4 <= each.wiped <= 0.6


def test_the_shipped_maze_model_shows_what_was_seen_long_ago():
    """Beyond the reach of all its windows."""
    twins = TwinConfig(window=4, away=5, vector_keys=("pose",))
    pairs = record_pairs("lssvwm/MemoryMaze-5x5-v0", {"image_size": 32}, 24, twins, first=3_000_000)
    frames = measure_pairs(load_world_model("maze-memory"), pairs, denoise_steps=1).frames
    assert frames is not None and frames.pairs >= 20
    assert frames.right >= 0.95 and frames.exchanged >= 0.95
    assert 0.4 <= frames.wiped <= 0.6


def test_the_shipped_maze_model_gives_back_views_after_long_absence():
    """What was away for 24 steps and agrees for 12 frames, where it comes back into view from a pose that was seen."""
    twins = TwinConfig(window=12, away=24, vector_keys=("pose",))
    pairs = record_pairs("lssvwm/MemoryMaze-5x5-v0", {"image_size": 32}, 24, twins, first=3_000_000)
    seen = [pair for pair in pairs if known_pose(pair)]
    frames = measure_pairs(load_world_model("maze-memory"), seen, denoise_steps=1).frames
    assert frames is not None and frames.pairs >= 12
    assert frames.right >= 0.95 and frames.exchanged >= 0.95


def known_pose(pair: Pair) -> bool:
    poses = pair.first.vectors
    before = poses[: -1 - pair.agreement]
    return len(before) > 0 and bool((abs(before - poses[-1]).max(axis=1) < 0.02).any())


def test_the_command_writes_everything_and_names_what_it_played(tmp_path, capsys):
    out = tmp_path / "paired"
    main(["bench", "paired", "--pairs", "3", "--denoise-steps", "1", "--out", str(out)])
    assert sorted(path.name for path in out.iterdir()) == ["paired.json", "paired.md", "paired.png"]
    written = json.loads((out / "paired.json").read_text())
    assert written["settings"]["env"] == MEMORY and written["settings"]["away"] == written["results"]["reach"] == 13
    (row,) = written["results"]["rows"]
    assert (row["predictor"], row["kind"], row["condition"]) == ("minigrid-memory", "block_ssm", "actions")
    assert row["reward"] == {"pairs": 3, "right": 1.0, "exchanged": 1.0, "wiped": 0.5}
    assert row["frames"]["pairs"] == 3 and written["results"]["agreement"] >= 12
    table = (out / "paired.md").read_text()
    assert table in capsys.readouterr().out and "| frame | 3 |" in table and "| reward or end | 3 | 1.000" in table
    # Two pairs with two histories each, five pictures a history.
    height, width = iio.imread(out / "paired.png").shape[:2]
    assert 0.8 < height / 4 / (width / 5) < 1.5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pairs", "0"], "at least 1, not (0, 128, 4, 32, 1)"),
        (["--reach", "1"], "a reach of 2, not 1"),
        (["--env", "MiniGrid-Empty-5x5-v0"], "MiniGrid-Empty-5x5-v0 has no twins"),
        (["--env", "lssvwm/MemoryMaze-5x5-v0"], "has frames of shape"),
        (["--pairs", "1", "--env-kwargs", "max_steps", "9"], "In 1 worlds no histories agree in 12 frames"),
    ],
)
def test_bad_requests_are_one_sentence(words, said, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["bench", "paired", *words, "--out", str(tmp_path / "no")])
    text = capsys.readouterr().err
    assert said in text and text.count("\n") == 1 and not (tmp_path / "no").exists()
