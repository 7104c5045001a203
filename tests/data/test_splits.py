"""Worlds of one split are in no other: seeds, and what collections, evaluations and trials play."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from lssvwm_agents.evaluate import evaluate_policy
from lssvwm_bench.trials import record_trials
from lssvwm_envs.explorers import explorer_named, make_explorer
from lssvwm_envs.make import image_envs, make_image_env
from lssvwm_rl.data.collect import collect
from lssvwm_rl.data.splits import SPLITS, split_seed
from lssvwm_rl.policy import RandomPolicy

MAZE, MAZE_SETTINGS = "lssvwm/MemoryMaze-5x5-v0", {"image_size": 16, "max_steps": 12}
MINIGRID, MINIGRID_SETTINGS = "MiniGrid-MemoryS7-v0", {"max_steps": 12}


def layout(seed: int) -> np.ndarray:
    """The maze of a seed."""
    return gym.make(MAZE, **MAZE_SETTINGS).reset(seed=seed)[1]["maze_layout"]


class Noting(gym.Wrapper):
    """Notes seeds and mazes of its resets."""

    def __init__(self, env: gym.Env, notes: list):
        super().__init__(env)
        self.notes = notes

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        observation, info = self.env.reset(seed=seed, options=options)
        self.notes.append((seed, info.get("maze_layout")))
        return observation, info


def test_no_seed_is_in_two_splits():
    assert set(SPLITS) == {"train", "validation", "test"}
    ranges = sorted(SPLITS.values(), key=lambda seeds: seeds.start)
    assert all(a.stop <= b.start and a.step == b.step == 1 and len(a) > 10**8 for a, b in pairwise(ranges))
    assert ranges[0].start >= 0 and ranges[-1].stop <= 2**31


@pytest.mark.parametrize("split", SPLITS)
def test_seeds_follow_each_other_inside_their_split(split):
    seeds, last = SPLITS[split], len(SPLITS[split]) - 1
    assert [split_seed(split, k) for k in (0, 1, 2, last)] == [seeds.start + k for k in (0, 1, 2)] + [seeds.stop - 1]
    for k in (-1, last + 1):
        with pytest.raises(ValueError, match=rf"'{split}' has seeds 0 to {last:,}, not {k:,}"):
            split_seed(split, k)


def test_a_store_holds_worlds_of_one_split(tmp_path):
    make_envs = image_envs(MAZE, **MAZE_SETTINGS)
    collect(make_envs, make_explorer, tmp_path / "s", 2, 2, split="test")
    with pytest.raises(ValueError, match="holds world 1,500,000,000, which is not of the split 'train'"):
        collect(make_envs, make_explorer, tmp_path / "s", 4, 2)
    with pytest.raises(ValueError, match="has seeds 0 to"):
        collect(make_envs, make_explorer, tmp_path / "new", 4, 2, seed=-1)
    assert not (tmp_path / "new").exists()


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match="no split 'tset'; use one of train, validation, test"):
        split_seed("tset", 0)


@pytest.mark.parametrize(("env_id", "settings"), [(MAZE, MAZE_SETTINGS), (MINIGRID, MINIGRID_SETTINGS)])
@pytest.mark.parametrize("split", SPLITS)
def test_a_collection_and_its_resumption_keep_to_their_split(tmp_path, env_id, settings, split):
    def run(out: str, episodes: int, **kwargs):
        return collect(
            image_envs(env_id, **settings), make_explorer, tmp_path / out, episodes, 2, 7, split, ("pose",), **kwargs
        )

    run("a", 2)
    resumed, whole = run("a", 5), run("b", 5)
    assert (
        sorted(resumed.seeds.tolist()) == sorted(whole.seeds.tolist()) == [split_seed(split, 7 + k) for k in range(5)]
    )
    assert all(int(seed) in SPLITS[split] for seed in resumed.seeds)
    by_seed = {episode.seed: episode for episode in resumed}
    for episode in whole:
        assert np.array_equal(by_seed[episode.seed].frames, episode.frames)
        env = make_image_env(env_id, **settings)
        assert np.array_equal(env.reset(seed=episode.seed)[0], episode.frames[0]), "the world of this seed"


def test_a_collection_refuses_seeds_beyond_its_split(tmp_path):
    with pytest.raises(ValueError, match="'test' has seeds 0 to"):
        collect(image_envs(MAZE, **MAZE_SETTINGS), make_explorer, tmp_path / "s", 1, seed=10**9, split="test")
    with pytest.raises(ValueError, match="no split 'exam'"):
        collect(image_envs(MAZE, **MAZE_SETTINGS), make_explorer, tmp_path / "t", 1, split="exam")


@pytest.mark.parametrize("num_envs", [1, 3])
def test_evaluation_plays_test_worlds_alone(num_envs):
    notes: list = []
    result = evaluate_policy(
        RandomPolicy(gym.spaces.Discrete(6)),
        lambda: Noting(gym.make(MAZE, **MAZE_SETTINGS), notes),
        episodes=5,
        num_envs=num_envs,
        seed=20,
    )
    assert len(result.returns) == 5 and (result.lengths == 12).all()
    seeds = [seed for seed, _ in notes]
    assert set(seeds) == {split_seed("test", 20 + k) for k in range(5)}, "these worlds and no other"
    counted = len(seeds) - (-5 % num_envs)  # a row without an episode left repeats its last one, which is not counted
    assert len(set(seeds)) == counted == 5
    assert all(seed in SPLITS["test"] for seed in seeds)
    assert all(np.array_equal(maze, layout(seed)) for seed, maze in notes)


@pytest.mark.parametrize("split", [None, "train", "validation", "test"])
def test_trials_are_of_test_worlds_unless_said_otherwise(split):
    explorer = explorer_named("wander")
    asked = {} if split is None else {"split": split}
    trials = record_trials(image_envs(MAZE, **MAZE_SETTINGS), explorer, 3, 12, seed=4, vector_keys=("pose",), **asked)
    for k, trial in enumerate(trials):
        assert trial.episode.seed == split_seed(split or "test", 4 + k)
        assert all(np.array_equal(maze, layout(trial.episode.seed)) for maze in trial.hidden["maze_layout"])
        assert trial.surfaces is not None and trial.surfaces.shape == trial.episode.frames.shape[:3]
        assert len(trial.episode) == 12 and trial.episode.truncated
    assert len({trial.hidden["targets_pos"][0].tobytes() for trial in trials}) == 3


def test_trials_are_the_same_in_gymnasiums_vector():
    explorer = explorer_named("explore")
    native = image_envs(MAZE, **MAZE_SETTINGS)

    def synchronous(count: int):
        singles = [partial(gym.make, MAZE, **MAZE_SETTINGS)] * count
        return gym.vector.SyncVectorEnv(singles, autoreset_mode=gym.vector.AutoresetMode.DISABLED)

    for a, b in zip(*(record_trials(make, explorer, 2, 8) for make in (native, synchronous)), strict=True):
        assert a.episode.seed == b.episode.seed and np.array_equal(a.surfaces, b.surfaces)
        for name in ("frames", "actions", "rewards"):
            assert np.array_equal(getattr(a.episode, name), getattr(b.episode, name))
        assert a.hidden.keys() == b.hidden.keys()
        assert all(np.array_equal(a.hidden[key], b.hidden[key]) for key in a.hidden)
