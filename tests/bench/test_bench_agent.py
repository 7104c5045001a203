"""All policies play the same worlds; who knows all collects more than who knows nothing; the command writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from lssvwm_agents.baselines import BaselineConfig, train_baseline
from lssvwm_agents.evaluate import EvaluationResult, evaluate_policy
from lssvwm_agents.imagination import DreamTrainConfig, train_in_dream
from lssvwm_agents.planning import PLANNERS
from lssvwm_agents.policies import TrainingCost, load_policy, set_cost
from lssvwm_bench.contenders import Contender, contenders
from lssvwm_bench.protocols.agent import AgentBench, replay
from lssvwm_bench.standings import Standing, standings_plot, standings_table
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


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> tuple[str, ...]:
    """Two seeds of a recurrent baseline, and one on images; no world model is involved."""
    folder = tmp_path_factory.mktemp("seeds")
    tiny = {"total_steps": 16, "num_envs": 2, "rollout_steps": 8, "batch_size": 8, "epochs": 1, "lstm": 8}
    env = {"env": MAZE, "env_kwargs": {"image_size": "32", "max_steps": "6"}}
    for name, kind, seed in (("lstm0", "recurrent", 0), ("lstm1", "recurrent", 1), ("images", "images", 0)):
        train_baseline(BaselineConfig(**env, **tiny, kind=kind, seed=seed), folder / name)
    set_cost(folder / "images", TrainingCost(real_steps=500, seconds=90.0))
    return str(folder / "lstm0"), str(folder / "lstm1"), str(folder / "images")


def only(found, name):
    (contender,) = found[name]
    return contender


def test_a_policy_that_looks_inside_is_made_for_the_environments_and_plays_the_same_whatever_runs_beside():
    oracle = only(contenders(make()), "oracle").policy
    results = [evaluate_policy(oracle, make, 5, num_envs=n, seed=3) for n in (1, 2)]
    assert np.array_equal(results[0].returns, results[1].returns)
    assert np.array_equal(results[0].first_actions, results[1].first_actions)


def test_who_knows_all_collects_more_than_who_knows_nothing():
    found = contenders(make())
    random, oracle = (evaluate_policy(only(found, name).policy, make, 6, num_envs=6) for name in ("random", "oracle"))
    assert oracle.mean_return - oracle.return_error > 3 * (random.mean_return + random.return_error)
    assert (oracle.lengths == 250).all()


def test_a_planner_is_told_by_an_agent_what_comes_after_its_horizon(maze_checkpoint, policy):
    plan = only(contenders(make(), planner=maze_checkpoint, critic=policy), "planner").policy
    memory = plan.model.initial_memory(2)
    values = plan.dynamics.terminal_value(memory)
    assert torch.equal(values, load_policy(policy).policy.predict_values(memory.readout())[:, 0])
    assert only(contenders(make(), planner=maze_checkpoint), "planner").policy.dynamics.terminal_value is None


def test_the_replay_is_the_first_episode():
    oracle = only(contenders(make()), "oracle").policy
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
    for result in written["results"].values():
        assert len(result["returns"]) == result["episodes"] == 2
        (seed,) = result["seeds"]
        assert seed["returns"] == result["returns"] and seed["success_interval"] == result["success_interval"]
    assert written["settings"]["cem"]["horizon"] == 3 and written["settings"]["deterministic"]
    table = (out / "agent.md").read_text()
    assert table in capsys.readouterr().out and f"2 test worlds of {MAZE}" in table
    assert "| policy | seeds | real steps | training minutes | success | return | steps per" in table
    assert (out / "agent.png").stat().st_size > 5000 and (out / "agent.mp4").stat().st_size > 500
    with pytest.raises(SystemExit):
        main(words)
    assert "exists already" in capsys.readouterr().err


def test_seeds_of_one_name_are_one_contender(seeds, tmp_path):
    out = tmp_path / "agent"
    words = ["bench", "agent", "--env", MAZE, "--env-kwargs", "image_size", "32", "max_steps", "20", "--episodes", "7"]
    main([*words, "--policy", f"lstm={seeds[0]}", f"ppo={seeds[2]}", f"lstm={seeds[1]}", "--out", str(out)])
    results = json.loads((out / "agent.json").read_text())["results"]
    assert list(results) == ["random", "oracle", "lstm", "ppo"]
    lstm, ppo = results["lstm"], results["ppo"]
    assert [seed["source"] for seed in lstm["seeds"]] == list(seeds[:2])
    assert [seed["real_steps"] for seed in lstm["seeds"] + ppo["seeds"]] == [16, 16, 500]
    assert ppo["seeds"][0]["training_seconds"] == 90
    for name in ("success_rate", "mean_return", "returns"):
        assert lstm[name] == pytest.approx(np.mean([seed[name] for seed in lstm["seeds"]], axis=0))
    second = load_policy(seeds[1])
    torch.manual_seed(0)  # it does not matter who played before
    alone = evaluate_policy(second, lambda: make(max_steps=20), 7)
    assert lstm["seeds"][1]["returns"] == alone.returns.tolist()
    row = next(line for line in (out / "agent.md").read_text().splitlines() if line.startswith("| ppo"))
    assert row.startswith(f"| ppo | 1 | 500 | 1.5 | {ppo['success_rate']:.3f} [{ppo['success_interval'][0]:.3f}, ")


def played(*returns: float) -> EvaluationResult:
    return EvaluationResult(np.array(returns), np.full(len(returns), 4), 1.0, np.zeros(4))


def test_one_policy_has_intervals_over_worlds_and_several_over_seeds():
    nobody = Contender(RandomPolicy(make().action_space))
    rng = np.random.default_rng(0)
    results = [played(*np.maximum(rng.normal(mean, 1, 50), 0)) for mean in (-1, 0, 1.5)]
    one = Standing((nobody,), (results[1],))
    count = int((results[1].returns > 0).sum())
    wilson = stats.binomtest(count, 50).proportion_ci(method="wilson")
    assert one.success.interval == pytest.approx((wilson.low, wilson.high)) and one.success.spread is None
    student = stats.ttest_1samp(results[1].returns, 0).confidence_interval(0.95)
    assert one.returns.interval == pytest.approx((student.low, student.high))
    three = Standing((nobody,) * 3, tuple(results))
    means = np.array([result.mean_return for result in results])
    student = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert three.returns.interval == pytest.approx((student.low, student.high))
    assert three.returns.mean == pytest.approx(means.mean())
    assert three.returns.spread == pytest.approx(np.std(means, ddof=1))
    low, high = three.success.interval
    assert 0 <= low < three.success.mean < high <= 1


def test_seeds_that_agree_are_no_surer_than_the_worlds_are_many():
    nobody = Contender(RandomPolicy(make().action_space))
    same = Standing((nobody,) * 3, (played(*[1.0] * 20),) * 3)
    wilson = stats.binomtest(20, 20).proportion_ci(method="wilson")
    assert same.success.interval == pytest.approx((wilson.low, wilson.high)) and same.success.spread == 0
    single = Standing((nobody,), (played(0.5),))
    assert single.returns.interval is None and json.dumps(single.to_json())
    assert "| 1.000 [0.207, 1.000] | 0.500 |" in standings_table({"a": single}, "World-v0")


def test_the_plot_has_a_bar_per_contender_and_a_point_per_policy_of_known_cost():
    nobody = Contender(RandomPolicy(make().action_space))
    costs = [Contender(nobody.policy, cost=TrainingCost(steps)) for steps in (10, 1000, None)]
    standings = {
        "random": Standing((nobody,), (played(0, 1),)),
        "loop": Standing(tuple(costs), (played(0, 0.5), played(0, 0.7), played(1, 0))),
    }
    success, returns, steps = standings_plot(standings, "World-v0").axes
    assert [bar.get_height() for bar in success.patches] == pytest.approx([0.5, 0.5])
    assert [bar.get_height() for bar in returns.patches] == pytest.approx([0.5, (0.25 + 0.35 + 0.5) / 3])
    points = [(float(c[0].get_xdata()[0]), float(c[0].get_ydata()[0])) for c in steps.containers]
    assert np.array(points) == pytest.approx(np.array([(10, 0.25), (1000, 0.35)])) and steps.get_xscale() == "log"
    assert len(standings_plot({"random": standings["random"]}, "World-v0").axes) == 2


def test_a_policy_reads_the_memory_of_its_world_model_or_of_another_that_is_named(
    maze_checkpoint, policy, seeds, tmp_path
):
    moved = str(shutil.copytree(maze_checkpoint, tmp_path / "moved"))
    for given, read in ((None, maze_checkpoint), (moved, moved)):
        found = contenders(make(), policies=[policy, f"images={seeds[2]}"], checkpoint=given)
        assert only(found, "policy").wrap_vector.keywords["checkpoint"] == read
        assert only(found, "images").wrap_vector is None


def test_every_search_can_be_asked_for(maze_checkpoint, tmp_path):
    for search, (settings, planner) in PLANNERS.items():
        assert getattr(AgentBench(), search) == settings()
        chosen = AgentBench(planner="a", search=search, **{search: settings(horizon=3)}).chosen_search()
        assert chosen == settings(horizon=3)
        assert isinstance(
            only(contenders(make(), planner=maze_checkpoint, search=chosen), "planner").policy.planner, planner
        )
    out = tmp_path / "agent"
    words = ["--env", MAZE, *SHORT, "--planner", maze_checkpoint, "--search", "shooting", "--shooting.horizon", "2"]
    main(["bench", "agent", *words, "--out", str(out)])
    written = json.loads((out / "agent.json").read_text())
    assert written["settings"]["search"] == "shooting" and written["settings"]["shooting"]["horizon"] == 2
    assert written["results"]["planner"]["seeds"][0]["source"] == maze_checkpoint


def test_minigrid_memory_has_an_oracle_and_other_environments_have_none(tmp_path, capsys):
    for env, found in (("MiniGrid-MemoryS7-v0", ["random", "oracle"]), ("MiniGrid-Empty-5x5-v0", ["random"])):
        out = tmp_path / env
        main(["bench", "agent", "--env", env, "--env-kwargs", "max_steps", "30", "--episodes", "2", "--out", str(out)])
        assert ("the oracle is left out" in capsys.readouterr().out) == (len(found) == 1)
        results = json.loads((out / "agent.json").read_text())["results"]
        assert list(results) == found and (out / "agent.mp4").stat().st_size > 500
        assert len(found) == 1 or results["oracle"]["success_rate"] == 1


BAD = [
    (["--planner"], "`--planner` is now `--planner CHECKPOINT`"),
    (["--checkpoint", "{maze}", "--planner"], "`--planner` is now `--planner CHECKPOINT`"),
    (["--planner", "{tmp}/none"], "no checkpoint"),
    (["--planner", "{maze}", "--cem.elites", "99"], "99 elites cannot be taken from 64 samples"),
    (["--planner", "{maze}", "--search", "icem", "--cem.horizon", "3"], "cem do nothing with --search icem"),
    (["--critic", "{policy}"], "does nothing without --planner CHECKPOINT"),
    (["--planner", "{narrow}", "--critic", "{policy}", *SHORT], "use the world model it was trained with"),
    (["--planner", "{maze}", "--search", "astar"], "no search 'astar'; use one of cem, icem, mppi, shooting"),
    (["--search", "mppi"], "mppi do nothing without --planner CHECKPOINT"),
    (["--shooting.samples", "3"], "shooting do nothing without --planner CHECKPOINT"),
    (["--checkpoint", "{maze}"], "alone does nothing"),
    (["--checkpoint", "{maze}", "--policy", "{images}", *SHORT], "alone does nothing"),
    (["--planner", "{minigrid}"], "world model takes (56, 56, 3)"),
    (["--policy", "{tmp}/none"], "No policy at"),
    (["--policy", "oracle={policy}"], "write NAME=FOLDER, with a name other than random, oracle, planner"),
    (["--policy", "a={policy}", "b={policy}"], "is given 2 times"),
    (["--policy", "{policy}", "--env", "MiniGrid-MemoryS7-v0"], "choose the environment it was trained for"),
    (["--policy", "a={images}", "--env", "MiniGrid-MemoryS7-v0"], "choose the environment it was trained for"),
    (
        ["--policy", "{images}", "--env-kwargs", "image_size", "64"],
        "(3, 32, 32), those of lssvwm/MemoryMaze-5x5-v0 are (3, 64, 64); choose the env",
    ),
    (["--policy", "{policy}", "--checkpoint", "{minigrid}"], "world model takes (56, 56, 3)"),
    ([*SHORT, "--policy", "{policy}", "--checkpoint", "{narrow}"], "use the world model it was trained with"),
    (["--episodes", "0"], "at least one episode"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_one_sentence(words, said, maze_checkpoint, narrow, checkpoint, policy, seeds, tmp_path, capsys):
    places = {"maze": maze_checkpoint, "narrow": narrow, "minigrid": checkpoint, "policy": policy, "tmp": tmp_path}
    filled = [w.format(**places, images=seeds[2]) for w in words]
    env = [] if "--env" in words else ["--env", MAZE]
    with pytest.raises(SystemExit) as stop:
        main(["bench", "agent", *env, *filled, "--out", str(tmp_path / "out")])
    assert stop.value.code == 2 and not (tmp_path / "out").exists()
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
