"""Scripted walks: what each is for, and that they do not depend on how the mazes are put together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from lssvwm_bench.trials import record_trials
from lssvwm_bench.walks import there_and_back
from lssvwm_envs.explorers import explorer_named, make_explorer
from lssvwm_envs.explorers.maze_view import MazeView
from lssvwm_envs.explorers.maze_walks import mixed
from lssvwm_envs.explorers.mazes import MazeExplorer
from lssvwm_envs.make import image_envs
from lssvwm_envs.memory_maze.distances import distances
from lssvwm_envs.memory_maze.env import MemoryMazeEnv
from lssvwm_envs.memory_maze.kinematics import HEADINGS, LEFT, RIGHT

WALKS = ("explore", "wander", "frontier", "oracle", "walk-back", "patrol", "look-around", "restless")
ENV_ID, N, STEPS, SIZE = "lssvwm/MemoryMaze-9x9-v0", 16, 1000, 9


@dataclass
class Walked:
    """One episode of each of N mazes."""

    actions: np.ndarray  # (STEPS, N)
    rewards: np.ndarray  # (STEPS, N)
    cells: np.ndarray  # (STEPS + 1, N, 2), y and x
    open_cells: np.ndarray  # (N, n, n)


@cache
def walked(policy: str) -> Walked:
    envs = image_envs(ENV_ID, image_size=16)(N)
    mazes = envs.unwrapped.mazes
    walker = explorer_named(policy)(envs, 3)
    observation, _ = envs.reset(seed=0)
    state, actions, rewards = None, [], []
    cells = [np.column_stack([mazes.y, mazes.x]).astype(int)]
    for step in range(STEPS):
        action, state = walker.predict(observation, state, np.full(N, step == 0))
        observation, reward, *_ = envs.step(action)
        actions.append(action)
        rewards.append(reward)
        cells.append(np.column_stack([mazes.y, mazes.x]).astype(int))
    return Walked(np.stack(actions), np.stack(rewards), np.stack(cells), mazes.open_cells.copy())


def coverage(walk: Walked) -> np.ndarray:
    """(N,) share of the floor cells that were visited."""
    visited = np.zeros_like(walk.open_cells)
    for cells in walk.cells:
        visited[np.arange(N), cells[:, 0], cells[:, 1]] = 1
    return visited.sum((1, 2)) / walk.open_cells.sum((1, 2))


@pytest.mark.parametrize("policy", WALKS)
def test_walks_keep_to_actions_that_exist(policy):
    walk = walked(policy)
    assert walk.actions.shape == (STEPS, N) and walk.actions.dtype == np.int64
    assert ((walk.actions >= 0) & (walk.actions < 6)).all()
    assert len(np.unique(walk.actions)) >= 3 and len(np.unique(walk.actions, axis=1).T) == N
    moved = (np.diff(walk.cells, axis=0) != 0).any(axis=2)
    if policy not in ("explore", "restless"):  # of which a few are random, or all
        longest = max(np.diff(np.flatnonzero(np.r_[True, row, True])).max() for row in moved.T)
        assert longest < 80, "steps in the same cell, longer than a whole turn and back"


def test_who_knows_more_collects_more():
    returns = {policy: walked(policy).rewards.sum(0).mean() for policy in ("oracle", "frontier", "wander", "random")}
    assert returns["oracle"] > 4 * max(returns["frontier"], returns["wander"]), returns
    assert returns["frontier"] > 2 * returns["random"] > 0 and returns["wander"] > 1.3 * returns["random"], returns
    assert (walked("oracle").rewards.sum(0) >= 10).all(), "in every maze"


def test_the_frontier_walk_sees_every_cell():
    assert (coverage(walked("frontier")) == 1).all()
    assert coverage(walked("wander")).mean() > coverage(walked("random")).mean() + 0.2


def test_the_way_back_ends_where_the_way_out_began():
    walk = walked("walk-back")
    away = np.abs(walk.cells - walk.cells[0]).max(axis=2) > 1
    for i in range(N):
        at_home = np.flatnonzero((walk.cells[:, i] == walk.cells[0, i]).all(axis=1))
        # 40 steps out, the same cells back, and some turns; without the way back hundreds are usual.
        assert np.diff(np.r_[at_home, STEPS]).max() < 110
        assert away[:, i].sum() > 50, "and it does go away"


@pytest.mark.parametrize("context", [64, 100])
def test_retrieval_walks_a_way_that_was_walked_before_exactly(context):
    trials = record_trials(image_envs(ENV_ID, image_size=16), there_and_back(context), 12, context + 24)
    moves = [trial.episode.actions[context - 1] for trial in trials]
    assert set(moves) <= {LEFT, RIGHT}  # the first predicted frame is of the turn back
    for trial in trials:
        poses = [tuple(pose.round(4)) for pose in trial.hidden["pose"]]
        seen = set(poses[:context])
        assert all(pose in seen for pose in poses[context:])
        # And the same poses show the same inside the border, up to rounding where a ray meets an edge.
        inside = trial.episode.frames[:, 1:-1, 1:-1]
        for t in range(context, context + 24, 5):
            before = poses.index(poses[t])
            assert (inside[before] == inside[t]).mean() > 0.98


def test_look_around_turns_all_the_way_round():
    turns = np.isin(walked("look-around").actions, (LEFT, RIGHT))
    assert 0.5 < turns.mean() < 0.98
    left = walked("look-around").actions == LEFT
    windows = np.lib.stride_tricks.sliding_window_view(left, HEADINGS, axis=0)
    assert windows.all(axis=-1).any(axis=0).mean() > 0.5


@pytest.mark.parametrize("policy", WALKS)
def test_walks_depend_on_the_seeds_alone(policy):
    """The native vector, one of Gymnasium's, and vectors of one: the same actions; another seed, other ones."""
    settings = {"image_size": 16, "max_steps": 70}

    def synchronous(count: int) -> SyncVectorEnv:
        return SyncVectorEnv([lambda: gym.make(ENV_ID, **settings)] * count, autoreset_mode=AutoresetMode.DISABLED)

    def actions(envs, env_seed: int, seed: int = 5) -> np.ndarray:
        """Of two episodes, (140, n)."""
        walker, state, taken = explorer_named(policy)(envs, seed), None, []
        observation, _ = envs.reset(seed=env_seed)
        start = np.ones(envs.num_envs, bool)
        for _ in range(140):
            action, state = walker.predict(observation, state, start)
            observation, _, _, start, _ = envs.step(action)
            taken.append(action)
            if start.any():
                observation, _ = envs.reset(options={"reset_mask": start.copy()})
        envs.close()
        return np.stack(taken)

    native = actions(image_envs(ENV_ID, **settings)(3), 9)
    assert np.array_equal(native, actions(synchronous(3), 9))
    assert np.array_equal(native[:, 1:2], actions(synchronous(1), 10))
    assert np.array_equal(native[:, 2:3], actions(image_envs(ENV_ID, **settings)(1), 11))
    other = actions(image_envs(ENV_ID, **settings)(3), 9, seed=6)
    assert np.array_equal(native, other) == (policy == "oracle"), "only who knows all has nothing to choose"
    assert not np.array_equal(native[:70], native[70:])


def test_names_find_walks_and_others_are_refused():
    envs = image_envs(ENV_ID, image_size=16)(2)
    explorer = make_explorer(envs, 0)
    assert isinstance(explorer, MazeExplorer) and explorer.walk is mixed
    with pytest.raises(ValueError, match="no scripted policy 'sleepwalk'"):
        explorer_named("sleepwalk")
    others = image_envs("MiniGrid-MemoryS7-v0")(1)
    with pytest.raises(ValueError, match="not a MemoryMaze"):
        MazeExplorer(others, 0, mixed)


def test_ways_are_shortest():
    env = MemoryMazeEnv(SIZE, image_size=16)
    for seed in range(20):
        env.reset(seed=seed)
        view = MazeView(env.mazes, 0)
        distance = distances(view.open_cells, *view.cell)
        assert np.array_equal(distance >= 0, view.open_cells == 1) and distance[view.cell] == 0
        for y, x in np.argwhere(distance > 0):
            beside = [distance[cell] for cell in view.neighbours((y, x))]
            assert min(beside) == distance[y, x] - 1 and max(beside) <= distance[y, x] + 1
        way = [view.cell, *view.way(view.target)]
        assert way[-1] == view.target and len(way) - 1 == distance[view.target]
        assert all(b in view.neighbours(a) for a, b in zip(way, way[1:], strict=False))
