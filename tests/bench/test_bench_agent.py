"""All policies play the same worlds; who knows all collects more than who knows nothing; the command writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lssvwm_agents.evaluate import evaluate_policy
from lssvwm_agents.imagination import DreamTrainConfig, train_in_dream
from lssvwm_bench.contenders import contenders
from lssvwm_bench.protocols.agent import replay
from lssvwm_envs.make import image_envs, make_image_env
from lssvwm_rl.cli import main
from lssvwm_rl.data.collect import collect
from lssvwm_rl.model.checkpoint_files import CONTEXTS
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.policy import RandomPolicy
from support.small_models import BACKBONE, awake

MAZE = "lssvwm/MemoryMaze-5x5-v0"
SHORT = ["--env-kwargs", "image_size", "32", "max_steps", "6", "--episodes", "2", "--num-envs", "2"]


def make(**kwargs):
    return make_image_env(MAZE, image_size=32, **kwargs)


def save(folder: Path, feature_size: int) -> str:
    """An untrained checkpoint of the maze."""
    envs = image_envs(MAZE, image_size=32, max_steps=20)
    store = collect(envs, lambda e, s: RandomPolicy(e.single_action_space, s), folder / CONTEXTS, 2, 2)
    config = WorldModelConfig(
        frame_shape=store.header.frame_shape,
        action_space=store.header.action_space,
        backbone=BACKBONE,
        feature_size=feature_size,
        head_width=32,
    )
    torch.manual_seed(0)
    awake(WorldModel(config)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def maze_checkpoint(tmp_path_factory) -> str:
    return save(tmp_path_factory.mktemp("maze"), feature_size=12)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory) -> str:
    return save(tmp_path_factory.mktemp("narrow"), feature_size=10)


@pytest.fixture(scope="module")
def policy(maze_checkpoint, tmp_path_factory) -> str:
    out = tmp_path_factory.mktemp("policy") / "agent"
    config = DreamTrainConfig(
        total_steps=16, num_envs=2, rollout_steps=8, batch_size=8, epochs=1, hidden=(16,), horizon=6
    )
    train_in_dream(maze_checkpoint, config, out)
    return str(out)


def test_a_policy_that_looks_inside_is_made_for_the_environments_and_plays_the_same_whatever_runs_beside():
    oracle = contenders(make())["oracle"].policy
    results = [evaluate_policy(oracle, make, 5, num_envs=n, seed=3) for n in (1, 2)]
    assert np.array_equal(results[0].returns, results[1].returns)
    assert np.array_equal(results[0].first_actions, results[1].first_actions)


def test_who_knows_all_collects_more_than_who_knows_nothing():
    results = {name: evaluate_policy(c.policy, make, 6, num_envs=6) for name, c in contenders(make()).items()}
    random, oracle = results["random"], results["oracle"]
    assert oracle.mean_return - oracle.return_error > 3 * (random.mean_return + random.return_error)
    assert (oracle.lengths == 250).all()


def test_the_replay_is_the_first_episode():
    oracle = contenders(make())["oracle"].policy
    result = evaluate_policy(oracle, lambda: make(max_steps=60), 3, num_envs=2, seed=4)
    env = make(max_steps=60, render_mode="rgb_array")
    rewards, step = [], env.step
    env.step = lambda action: rewards.append((answer := step(action))[1]) or answer
    video = replay(env, 4, result.first_actions)
    assert len(result.first_actions) == result.lengths[0] == 60
    assert sum(rewards) == result.returns[0] > 0
    assert video.shape == (61, 256, 512, 3) and (video[0] != video[-1]).any()
    assert replay(make(), 4, result.first_actions) is None


def test_a_long_replay_leaves_out_frames():
    actions = np.ones(600, np.int64)
    assert len(replay(make(max_steps=600, render_mode="rgb_array"), 0, actions)) == 201


def test_the_command_writes_all_files_once(maze_checkpoint, policy, tmp_path, capsys):
    out = tmp_path / "agent"
    words = ["bench", "agent", "--env", MAZE, *SHORT, "--policy", policy, "--out", str(out)]
    main([*words, "--planner", maze_checkpoint, "--cem.horizon", "3", "--cem.samples", "8", "--deterministic"])
    written = json.loads((out / "agent.json").read_text())
    assert list(written["results"]) == ["random", "oracle", "policy", "planner"]
    assert all(len(result["returns"]) == 2 for result in written["results"].values())
    assert written["settings"]["cem"]["horizon"] == 3 and written["settings"]["deterministic"]
    table = (out / "agent.md").read_text()
    assert table in capsys.readouterr().out and f"2 test worlds of {MAZE}" in table
    assert "| policy | success | return | steps per episode | seconds per step |" in table
    assert (out / "agent.png").stat().st_size > 5000 and (out / "agent.mp4").stat().st_size > 500
    with pytest.raises(SystemExit):
        main(words)
    assert "exists already" in capsys.readouterr().err


def test_a_policy_reads_the_memory_of_its_world_model_or_of_another_that_is_named(maze_checkpoint, policy, tmp_path):
    moved = str(shutil.copytree(maze_checkpoint, tmp_path / "moved"))
    for given, read in ((None, maze_checkpoint), (moved, moved)):
        found = contenders(make(), policy=Path(policy), checkpoint=given)
        assert found["policy"].wrap_vector.keywords["checkpoint"] == read


def test_other_environments_have_no_oracle(tmp_path, capsys):
    out = tmp_path / "agent"
    words = ["--env-kwargs", "max_steps", "5", "--episodes", "1", "--out", str(out)]
    main(["bench", "agent", "--env", "MiniGrid-MemoryS7-v0", *words])
    assert "the oracle is left out" in capsys.readouterr().out
    assert list(json.loads((out / "agent.json").read_text())["results"]) == ["random"]
    assert (out / "agent.mp4").stat().st_size > 500


BAD = [
    (["--planner"], "`--planner` is now `--planner CHECKPOINT`"),
    (["--checkpoint", "{maze}", "--planner"], "`--planner` is now `--planner CHECKPOINT`"),
    (["--planner", "{tmp}/none"], "no checkpoint"),
    (["--planner", "{maze}", "--cem.elites", "99"], "99 elites cannot be taken from 64 samples"),
    (["--checkpoint", "{maze}"], "alone does nothing"),
    (["--planner", "{minigrid}"], "world model takes (56, 56, 3)"),
    (["--policy", "{tmp}/none"], "No policy at"),
    (["--policy", "{policy}", "--env", "MiniGrid-MemoryS7-v0"], "choose the environment it was trained for"),
    (["--policy", "{policy}", "--checkpoint", "{minigrid}"], "world model takes (56, 56, 3)"),
    ([*SHORT, "--policy", "{policy}", "--checkpoint", "{narrow}"], "use the world model it was trained with"),
    (["--episodes", "0"], "at least one episode"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_one_sentence(words, said, maze_checkpoint, narrow, checkpoint, policy, tmp_path, capsys):
    places = {"maze": maze_checkpoint, "narrow": narrow, "minigrid": checkpoint, "policy": policy, "tmp": tmp_path}
    filled = [w.format(**places) for w in words]
    env = [] if "--env" in words else ["--env", MAZE]
    with pytest.raises(SystemExit) as stop:
        main(["bench", "agent", *env, *filled, "--out", str(tmp_path / "out")])
    assert stop.value.code == 2 and not (tmp_path / "out").exists()
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
