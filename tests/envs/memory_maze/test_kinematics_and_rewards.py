"""Where agents can be, and what they are paid for."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_envs.explorers import explorer_named
from lssvwm_envs.memory_maze.appearance import OBJECT_COLORS
from lssvwm_envs.memory_maze.kinematics import (
    FORWARD,
    FORWARD_LEFT,
    FORWARD_RIGHT,
    HEADINGS,
    LEFT,
    NOOP,
    RADIUS,
    REACH,
    RIGHT,
    STEP,
    TURN,
)
from lssvwm_envs.memory_maze.maze import MazeConfig, Mazes

TURNS = {NOOP: 0, FORWARD: 0, LEFT: -1, FORWARD_LEFT: -1, RIGHT: 1, FORWARD_RIGHT: 1}
SLACK = 1e-8


def assert_free(mazes: Mazes):
    """No corner of any agent's square is in a wall; the square is smaller than a cell, so none of it is."""
    n = mazes.config.size
    for right in (-1, 1):
        for down in (-1, 1):
            x = np.floor(mazes.x + right * (RADIUS - SLACK)).astype(int)
            y = np.floor(mazes.y + down * (RADIUS - SLACK)).astype(int)
            assert (x >= 0).all() and (y >= 0).all() and (x < n).all() and (y < n).all()
            assert mazes.open_cells[np.arange(mazes.num_envs), y, x].all()


def assert_moved_rightly(before, after, heading_before, heading, actions):
    """A step goes as far as it should along x and along y, or up to a wall, whose faces are at whole numbers."""
    turned = (heading - heading_before + HEADINGS // 2) % HEADINGS - HEADINGS // 2
    assert (turned == [TURNS[action] for action in actions]).all()
    forward = np.isin(actions, (FORWARD, FORWARD_LEFT, FORWARD_RIGHT))
    wanted = forward * STEP * np.array([np.cos(heading * TURN), np.sin(heading * TURN)])
    moved = after - before
    shorter = np.abs(moved - wanted) > SLACK
    front = after + RADIUS * np.sign(wanted)
    assert (np.abs(front - np.rint(front))[shorter] < SLACK).all(), "only a wall stops an agent"
    assert (np.abs(moved) <= np.abs(wanted) + SLACK).all() and (moved * wanted >= -SLACK).all()
    assert np.hypot(*moved).max() <= STEP + SLACK


def act(mazes: Mazes, actions: np.ndarray):
    before, heading = np.array([mazes.x, mazes.y]), mazes.heading.copy()
    mazes.step(np.arange(mazes.num_envs), actions)
    assert_free(mazes)
    assert_moved_rightly(before, np.array([mazes.x, mazes.y]), heading, mazes.heading, actions)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(2, 7).map(lambda k: 2 * k + 1),
    seed=st.integers(0, 2**63 - 1),
    runs=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 12)), min_size=1, max_size=40),
)
def test_walls_are_never_entered(size, seed, runs):
    mazes = Mazes(MazeConfig(size), 1)
    mazes.reset(np.arange(1), np.array([seed], np.uint64))
    assert_free(mazes)
    for action, count in runs:
        for _ in range(count):
            act(mazes, np.array([action]))


@pytest.mark.parametrize("size", range(5, 16, 2))
def test_walls_are_never_entered_on_long_ways(size):
    rng = np.random.default_rng(size)
    mazes = Mazes(MazeConfig(size), 64)
    mazes.reset(np.arange(64), rng.integers(2**63, size=64).astype(np.uint64))
    touched = 0
    for _ in range(300):
        x = mazes.x.copy()
        act(mazes, rng.choice(6, 64, p=[0.02, 0.68, 0.05, 0.05, 0.1, 0.1]))
        touched += ((x == mazes.x) & (np.abs(np.cos(mazes.heading * TURN)) > 0.1)).sum()
    assert touched > 100, "ways that run into walls"


def test_all_turns_come_back_exactly():
    mazes = Mazes(MazeConfig(5), 1)
    mazes.reset(np.arange(1), np.zeros(1, np.uint64))
    frame = mazes.frames()
    for action in [RIGHT] * HEADINGS + [LEFT] * HEADINGS:
        mazes.step(np.arange(1), np.array([action]))
    assert np.array_equal(mazes.frames(), frame)
    assert math.isclose(HEADINGS * TURN, 2 * math.pi)


@pytest.mark.parametrize("policy", ["oracle", "frontier", "random"])
def test_a_reward_is_for_the_shown_object_and_for_nothing_else(policy):
    n = 12
    envs = gym.make_vec("lssvwm/MemoryMaze-7x7-v0", n, image_size=16, max_steps=200, objects=4)
    mazes: Mazes = envs.unwrapped.mazes
    walker = explorer_named(policy)(envs, 0)
    observation, _ = envs.reset(seed=0)
    state, start = None, np.ones(n, bool)
    rewarded = passed = 0
    shown_next: set[tuple[int, int]] = set()
    for _ in range(410):  # two whole episodes and the beginning of a third
        target, objects = mazes.target.copy(), mazes.objects.copy()
        actions, state = walker.predict(observation, state, start)
        observation, rewards, terminated, truncated, info = envs.step(actions)
        began = mazes.steps == 0
        distance = np.hypot(mazes.objects[:, :, 0] - mazes.x[:, None], mazes.objects[:, :, 1] - mazes.y[:, None])
        reached = ~began & (distance[np.arange(n), target] < REACH)
        assert np.array_equal(rewards, reached.astype(float))
        assert (mazes.target[reached] != target[reached]).all()
        assert (mazes.target[~reached & ~began] == target[~reached & ~began]).all()
        assert np.array_equal(mazes.objects[~began], objects[~began]), "objects stay where they are"
        assert np.array_equal(info["target"], mazes.target)
        assert np.array_equal(observation[:, 0, 0], OBJECT_COLORS[mazes.target])
        assert np.allclose(info["target_color"] * 255, OBJECT_COLORS[mazes.target])
        assert not terminated.any()
        rewarded += reached.sum()
        passed += (~began & ~reached & (distance < REACH).any(axis=1)).sum()
        shown_next |= set(zip(target[reached].tolist(), mazes.target[reached].tolist(), strict=True))
        start = began
    assert rewarded > 0 and passed > 0, "shown objects are reached, and others passed"
    if policy == "oracle":
        assert len(shown_next) == 4 * 3, "every object is shown after every other one"
