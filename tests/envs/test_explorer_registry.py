"""Explorers by name: a decorated one can be collected with, and names that do not fit are one sentence."""

from __future__ import annotations

import numpy as np
import pytest
from minigrid.minigrid_env import MiniGridEnv

from lssvwm_agents.evaluate import evaluate_policy
from lssvwm_envs.explorers import explorer, explorer_named, explorer_names, made_of, make_explorer, registry
from lssvwm_envs.explorers.lasting import LastingActions
from lssvwm_envs.explorers.memory_walker import MemoryWalker
from lssvwm_envs.explorers.out_and_back import OutAndBack
from lssvwm_envs.make import image_envs, make_image_env
from lssvwm_rl.cli import main
from lssvwm_rl.data.splits import split_seed
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.policy import kept_by

MINIGRID, RECALL, MAZE = "MiniGrid-MemoryS7-v0", "lssvwm/MiniGridRecall-v0", "lssvwm/MemoryMaze-5x5-v0"
MEMORY = ["memory-oracle", "memory-walker"]
ANY = ["explore", "lasting", "random"]
WALKS = ["frontier", "look-around", "mixed", "oracle", "patrol", "restless", "walk-back", "wander"]


@pytest.fixture
def new_names(monkeypatch):
    """What the test registers is forgotten after it."""
    monkeypatch.setattr(registry, "EXPLORERS", dict(registry.EXPLORERS))


@pytest.mark.usefixtures("new_names")
def test_a_decorated_class_or_function_is_collected_with(tmp_path, capsys):
    @explorer("spin", suits=made_of(MiniGridEnv))
    class Spin:
        def __init__(self, envs, seed):
            self.count = envs.num_envs

        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return np.zeros(self.count, np.int64), state

    @explorer("still")
    def still(envs, seed):
        return Spin(envs, seed)

    for name in ("spin", "still"):
        out = tmp_path / name
        words = ["--episodes", "2", "--num-envs", "2", "--env-kwargs", "max_steps", "5", "--policy", name]
        main(["collect", MINIGRID, "--out", str(out), *words])
        store = EpisodeStore(out)
        assert store.header.policy == name and store.lengths.tolist() == [5, 5]
        assert not np.concatenate([episode.actions for episode in store]).any()
    with pytest.raises(SystemExit):
        main(["collect", MAZE, "--out", str(tmp_path / "maze"), "--policy", "spin"])
    assert "'spin' does not suit" in capsys.readouterr().err and not (tmp_path / "maze").exists()
    with pytest.raises(ValueError, match="'spin' already; choose another name"):
        explorer("spin")(Spin)
    with pytest.raises(SystemExit):
        main(["collect", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert all(name in shown for name in [*ANY, *WALKS, *MEMORY, "out-and-back", "spin", "still"])


@pytest.mark.parametrize(
    ("env_id", "own"), [(MINIGRID, MEMORY), (RECALL, ["out-and-back"]), (MAZE, WALKS),
                        ("MiniGrid-Empty-5x5-v0", [])]
)  # fmt: skip
def test_every_environment_has_explorers_that_suit_it(env_id, own):
    envs = image_envs(env_id)(2)
    assert explorer_names(envs) == sorted([*ANY, *own])
    for name in explorer_names():
        if name not in explorer_names(envs):
            with pytest.raises(ValueError, match=f"'{name}' does not suit .*; use one of {', '.join(ANY[:1])}"):
                explorer_named(name)(envs, 0)
            continue
        observation, _ = envs.reset(seed=0)
        actions, _ = explorer_named(name)(envs, 0).predict(observation, None, np.ones(2, bool))
        assert envs.action_space.contains(actions)
    envs.close()


@pytest.mark.parametrize(
    ("env_id", "name"), [*((MINIGRID, name) for name in MEMORY), (RECALL, "out-and-back"), (MAZE, "patrol")]
)
def test_without_episode_start_an_explorer_goes_on(env_id, name):
    """As Stable-Baselines3's recurrent policies: the state alone says that an episode has begun."""

    def actions(*starts: np.ndarray | None) -> np.ndarray:
        envs = image_envs(env_id)(2)
        walker, state, taken = explorer_named(name)(envs, 0), None, []
        observation, _ = envs.reset(seed=3)
        for start in starts:
            action, state = walker.predict(observation, state, start)
            observation, _, terminated, truncated, _ = envs.step(action)
            taken.append(action)
            if (terminated | truncated).any():
                break
        envs.close()
        return np.stack(taken)

    begins, goes_on = np.ones(2, bool), np.zeros(2, bool)
    told = actions(begins, *[goes_on] * 11)
    assert np.array_equal(actions(*[None] * 12), told) and np.array_equal(actions(*[goes_on] * 12), told)
    assert len(np.unique(told)) > 1


def test_what_is_kept_is_begun_where_an_episode_starts():
    def kept(state, start):
        return kept_by("ab", state, None if start is None else np.array(start), str.upper)

    assert kept(None, None) == kept(None, [False, False]) == kept(None, [True, False]) == ["A", "B"]
    assert kept([1, 2], None) == kept([1, 2], [False, False]) == [1, 2]
    assert kept([1, 2], [False, True]) == [1, "B"]


@pytest.mark.parametrize("env_id", [MINIGRID, "MiniGrid-MemoryS13Random-v0"])
def test_the_memory_oracle_looks_and_goes_to_the_right_end(env_id):
    results = [
        evaluate_policy(lambda envs: explorer_named("memory-oracle")(envs, 0), lambda: make_image_env(env_id), 20, n)
        for n in (1, 6)
    ]
    assert results[0].success_rate >= 0.95
    assert np.array_equal(results[0].returns, results[1].returns)
    looked = []
    for j in range(20):
        envs = image_envs(env_id)(1)
        walker = explorer_named("memory-oracle")(envs, 0)
        observation, _ = envs.reset(seed=split_seed("test", j))
        state, ended, seen = None, np.ones(1, bool), False
        for _ in range(results[0].lengths[j]):
            env = envs.envs[0].unwrapped
            seen |= env.agent_sees(1, env.height // 2 - 1)
            actions, state = walker.predict(observation, state, ended)
            observation, _, terminated, truncated, _ = envs.step(actions)
            ended = terminated | truncated
        looked.append(seen)
    assert all(looked)


def test_explore_is_what_suits():
    kinds = {MINIGRID: MemoryWalker, RECALL: OutAndBack, "MiniGrid-Empty-5x5-v0": LastingActions}
    for env_id, kind in kinds.items():
        assert isinstance(make_explorer(image_envs(env_id)(2), 0), kind)
    walker = make_explorer(image_envs(MINIGRID)(1), 0, blind=0.5)
    assert isinstance(walker, MemoryWalker) and walker.blind == 0.5


def test_an_unknown_name_lists_all(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["collect", MINIGRID, "--out", str(tmp_path / "s"), "--policy", "sleepwalk"])
    error = capsys.readouterr().err
    assert "no scripted policy 'sleepwalk'" in error and error.count("\n") == 1
    assert all(name in error for name in explorer_names()) and not list(tmp_path.iterdir())
