"""The protocols from checkpoint to folder, and the worlds that they play."""

from __future__ import annotations

import dataclasses
import json

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from lssvwm_bench.lineup import load_lineup
from lssvwm_bench.trials import record_trials
from lssvwm_bench.walks import then_restless, there_and_back
from lssvwm_envs.explorers import explorer_named, make_explorer
from lssvwm_envs.make import image_envs, make_image_env
from lssvwm_rl.cli import main
from lssvwm_rl.data.collect import collect
from lssvwm_rl.data.splits import SPLITS
from lssvwm_rl.measures.revisit import NEVER, revisit_masks
from lssvwm_rl.model.checkpoint_files import CONTEXTS
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.world_model import WorldModel
from support.small_models import BACKBONE, awake

MAZE, RECALL = "lssvwm/MemoryMaze-5x5-v0", "lssvwm/MiniGridRecall-v0"
FEW = ["--trials", "2", "--denoise-steps", "1"]


def save(folder, env_id: str, kind: str, pose: bool, **kwargs) -> str:
    """An untrained checkpoint with two short contexts."""
    torch.set_num_threads(1)
    with make_image_env(env_id, max_steps=6, **kwargs) as env:
        spec = env.spec.to_json()
    make_envs = image_envs(env_id, max_steps=6, **kwargs)
    store = collect(make_envs, make_explorer, folder / CONTEXTS, 2, 2, vector_keys=("pose",), env_spec=spec)
    torch.manual_seed(0)
    config = WorldModelConfig(frame_shape=store.header.frame_shape, action_space=store.header.action_space,
        vector_size=store.header.vector_size if pose else 0,
        backbone=dataclasses.replace(BACKBONE, kind=kind), feature_size=12, head_width=32,
    )  # fmt: skip
    awake(model := WorldModel(config))
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def mazes(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("mazes")
    kinds = (("block_ssm", True), ("window", False))
    return [save(folder / kind, MAZE, kind, pose, image_size=32) for kind, pose in kinds]


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> str:
    return save(tmp_path_factory.mktemp("room") / "recall", RECALL, "block_ssm", True)


def bench(name: str, out, *words: str) -> dict:
    """Results, after a look at all files."""
    main(["bench", name, "--out", str(out), *FEW, *words])
    told = json.loads((out / f"{name}.json").read_text(), parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    assert (out / f"{name}.png").stat().st_size > 5000
    assert told["results"]["rows"][0]["predictor"] in (out / f"{name}.md").read_text()
    return told


def test_retrieval_writes_everything_once(mazes, tmp_path, capsys):
    out = tmp_path / "retrieval"
    told = bench("retrieval", out, "--context", "10", "--back", "8", "--checkpoints", *mazes)
    assert (out / "retrieval.md").read_text() in capsys.readouterr().out
    # The environment of the checkpoints, with longer episodes than they were collected in.
    assert told["settings"]["env"] == MAZE
    assert told["settings"]["env_kwargs"] == {"size": 5, "extra_obs": False, "image_size": 32, "max_steps": 17}
    rows = told["results"]["rows"]
    assert [(r["predictor"], r["condition"]) for r in rows[:2]] == [("block_ssm", "pose"), ("window", "actions")]
    assert [r["mode"] for r in rows] == ["teacher-forced"] * 4 + ["free-running"] * 4
    assert all(len(r["frames"]["psnr"]) == 8 for r in rows)
    # Two trials below each other; real, block_ssm and window side by side; gaps of 2 pixels; context first.
    video = iio.imread(out / "retrieval.mp4", plugin="pyav")
    assert len(video) == 18 and video.shape[1] * (3 * 32 + 4) == video.shape[2] * (2 * 32 + 2)
    width = video.shape[2] * 32 // 100
    real, dreamt = video[:, :, :width].astype(int), video[:, :, -width:]
    assert np.abs(real - dreamt)[:10].mean() < 10 < 50 < np.abs(real - dreamt)[10:].mean()
    strip = iio.imread(out / "retrieval-strip.png")
    assert strip.shape == (6 * 98 - 2, 8 * 98 - 2, 3)
    with pytest.raises(SystemExit):
        main(["bench", "retrieval", "--out", str(out), "--checkpoints", *mazes])
    assert "exists already" in capsys.readouterr().err


def test_reasoning_dreams_on_after_the_context(mazes, tmp_path):
    words = ["--context", "12", "--steps", "5", "--reach", "4", "--checkpoints", *mazes]
    told = bench("reasoning", tmp_path / "reasoning", *words)
    rows, reach = told["results"]["rows"], told["results"]["reach"]
    assert reach == 4 and {r["mode"] for r in rows} == {"free-running"}
    assert [r["predictor"] for r in rows] == ["block_ssm", "window", "copy last frame", "window oracle"]
    assert (tmp_path / "reasoning" / "reasoning-strip.png").exists()
    assert len(iio.imread(tmp_path / "reasoning" / "reasoning.mp4", plugin="pyav")) == 17


def test_long_measures_the_drift(mazes, tmp_path):
    told = bench("long", tmp_path / "long", "--context", "4", "--steps", "60", "--checkpoints", *mazes)
    assert told["results"]["chunks"] == [[1, 50], [51, 60]]
    assert [r["predictor"] for r in told["results"]["rows"]] == ["block_ssm", "window", "real, other half"]
    assert len(iio.imread(tmp_path / "long" / "long.mp4", plugin="pyav")) == 64


def test_twins_of_mazes_are_paired(mazes, tmp_path):
    out = tmp_path / "paired"
    words = ["--pairs", "4", "--steps", "70", "--denoise-steps", "1", "--checkpoints", *mazes]
    main(["bench", "paired", "--out", str(out), *words])
    told = json.loads((out / "paired.json").read_text())
    rows = told["results"]["rows"]
    assert told["results"]["reach"] == 7 and told["settings"]["env_kwargs"]["image_size"] == 32
    assert [(r["predictor"], r["condition"], r["reward"]) for r in rows] == [
        ("block_ssm", "pose", None),
        ("window", "actions", None),
    ]
    # Beyond its reach a window cannot tell the twins apart.
    assert rows[1]["frames"] == {"pairs": rows[0]["frames"]["pairs"], "right": 0.5, "exchanged": 0.5, "wiped": 0.5}
    assert (out / "paired.png").stat().st_size > 5000


def test_the_recall_room_is_walked_back_through(room, tmp_path):
    told = bench("retrieval", tmp_path / "room", "--context", "40", "--checkpoints", room)
    assert told["settings"]["env_kwargs"]["max_steps"] == 79
    classes = told["results"]["rows"][0]["classes"]
    assert all(classes[name]["pixels"] > 0 for name in ("memory", "window"))
    oracle = next(r for r in told["results"]["rows"] if r["predictor"] == "window oracle")
    # Only floor tiles of the own class are exact, so memory is not.
    assert oracle["classes"]["window"]["psnr"] > 100 > oracle["classes"]["memory"]["psnr"]


def test_other_worlds_and_walks_can_be_named(room, tmp_path):
    words = ["--env", RECALL, "--env-kwargs", "size", "7", "--policy", "random", "--context", "6", "--back", "3"]
    told = bench("retrieval", tmp_path / "named", *words, "--checkpoints", room)
    assert told["settings"]["env_kwargs"] == {"size": 7, "max_steps": 8}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--context", "0"], "at least 1, not 0"),
        (["--back", "0"], "at least 1, not 0 and 2"),
        (["--policy", "fly"], "no scripted policy 'fly'"),
        (["--env", RECALL], f"{RECALL} has frames of shape"),
    ],
)
def test_bad_requests_are_one_sentence(mazes, tmp_path, capsys, words, said):
    with pytest.raises(SystemExit):
        main(["bench", "retrieval", "--out", str(tmp_path / "no"), *FEW, *words, "--checkpoints", *mazes])
    text = capsys.readouterr().err
    assert said in text and text.count("\n") == 1 and not (tmp_path / "no").exists()


def test_checkpoints_that_do_not_go_together_are_one_sentence(mazes, room, tmp_path):
    with pytest.raises(ValueError, match=r"block_ssm has frame_shape \(32, 32, 3\), recall has \(24, 24, 3\)"):
        load_lineup([mazes[0], room])
    with pytest.raises(ValueError, match="each checkpoint once"):
        load_lineup([mazes[0], mazes[0]])
    other = save(tmp_path / "other", MAZE, "window", False, image_size=32, objects=2)
    lineup = load_lineup([*mazes, other])
    assert list(lineup.models) == ["block_ssm", "window", "other"] and lineup.vector_keys == ("pose",)
    with pytest.raises(ValueError, match="other in .*--env"):
        lineup.environment()
    header = dataclasses.replace(lineup.headers[0], env_spec=None)
    with pytest.raises(ValueError, match="does not tell its environment"):
        dataclasses.replace(lineup, headers=(header, *lineup.headers[1:])).environment()


def test_the_way_back_is_the_way_out(mazes):
    context = 24
    maze = image_envs(MAZE, image_size=32, max_steps=100)
    trials = record_trials(maze, there_and_back(context), 6, 2 * context - 1, vector_keys=("pose",))
    assert all(t.episode.seed in SPLITS["test"] for t in trials)
    for trial in trials:
        place = trial.hidden["agent_pos"]
        home = np.linalg.norm(place[context:] - place[0], axis=-1) < 0.5
        # Once it is home it sets out anew.
        arrived = int(home.argmax()) if home.any() else context
        way = place[context : context + arrived]
        # Cell by cell as it came.
        assert (np.linalg.norm(way[:, None] - place[None, :context], axis=-1).min(axis=1) < 1).all()
        if arrived:
            assert (revisit_masks(trial.surfaces, 7)[context : context + arrived] != NEVER).mean() > 0.5
    room = image_envs(RECALL, max_steps=100)
    for trial in record_trials(room, there_and_back(context), 3, 2 * context, vector_keys=("pose",)):
        place = np.rint(trial.episode.vectors[:, :2] * 9).astype(int)
        # After two turns on the spot.
        np.testing.assert_array_equal(place[context + 1 : 2 * context + 1], place[context - 1 :: -1])


@pytest.mark.parametrize("env_id", [MAZE, RECALL])
def test_a_continuation_is_random_after_the_context(env_id):
    context, envs = 20, image_envs(env_id, max_steps=60)
    explored = record_trials(envs, explorer_named("explore"), 3, 60)
    continued = record_trials(envs, then_restless(explorer_named("explore"), context), 3, 60)
    for a, b in zip(explored, continued, strict=True):
        np.testing.assert_array_equal(a.episode.frames[:context], b.episode.frames[:context])
        assert (a.episode.actions[context - 1 :] != b.episode.actions[context - 1 :]).any()
    after = np.concatenate([t.episode.actions[context - 1 :] for t in continued])
    assert len(set(after.tolist())) == (6 if env_id == MAZE else 3)
    assert np.mean(after[1:] == after[:-1]) > 0.4, "actions last"
