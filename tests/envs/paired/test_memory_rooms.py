"""Twins of MiniGrid-Memory differ in the first object alone, and walks make both sorts of pairs of them."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from lssvwm_envs.make import TILE_SIZE, make_image_env, partial_view
from lssvwm_envs.paired.memory_rooms import OtherFirstObject
from lssvwm_envs.paired.record import record_pairs
from lssvwm_envs.paired.twins import TwinConfig

ROOMS = ["MiniGrid-MemoryS7-v0", "MiniGrid-MemoryS9-v0", "MiniGrid-MemoryS13-v0", "MiniGrid-MemoryS17Random-v0"]
LEFT, FORWARD = 0, 2
KEY, BALL = 5, 6  # in MiniGrid's encoding of a grid, (kind, colour, state) per cell


@pytest.mark.parametrize("env_id", ROOMS)
def test_only_the_first_object_and_what_follows_from_it_differ(env_id):
    world, twin = make_image_env(env_id), partial_view(OtherFirstObject(gym.make(env_id)))
    kinds, visible = set(), set()
    for seed in range(8):
        frame, info = world.reset(seed=seed)
        other, other_info = twin.reset(seed=seed)
        one, two = world.unwrapped, twin.unwrapped
        grid, other_grid = one.grid.encode(), two.grid.encode()
        cell = (1, one.height // 2 - 1)
        assert np.argwhere((grid != other_grid).any(axis=-1)).tolist() == [list(cell)]
        assert {grid[cell][0], other_grid[cell][0]} == {KEY, BALL}
        assert grid[cell][1:].tolist() == other_grid[cell][1:].tolist()
        assert tuple(one.success_pos) == tuple(two.failure_pos) and tuple(one.failure_pos) == tuple(two.success_pos)
        assert tuple(one.agent_pos) == tuple(two.agent_pos) and one.agent_dir == two.agent_dir
        assert one.np_random.bit_generator.state == two.np_random.bit_generator.state
        np.testing.assert_array_equal(info["pose"], other_info["pose"])
        kinds.add(grid[cell][0])
        for action in (LEFT, LEFT, FORWARD, FORWARD, LEFT):
            assert (frame != other).any() == one.agent_sees(*cell)
            visible.add(bool((frame != other).any()))
            frame, other = world.step(action)[0], twin.step(action)[0]
    assert kinds == {KEY, BALL} and visible == {True, False}


@pytest.mark.parametrize("env_id", ROOMS)
def test_every_world_gives_a_return_and_an_end(env_id):
    config = TwinConfig(window=10, away=14, vector_keys=("pose",))
    pairs = record_pairs(env_id, {}, 4, config)
    assert [pair.in_frame for pair in pairs] == [True, False] * 4
    for pair in pairs:
        a, b = pair.first, pair.second
        np.testing.assert_array_equal(a.actions, b.actions)
        np.testing.assert_array_equal(a.vectors, b.vectors)
        differ = [t for t in range(len(a.frames)) if (a.frames[t] != b.frames[t]).any()]
        before = [t for t in differ if t < len(a)]
        # The object was seen, and then not for as long as the walk was to stay away.
        assert before and len(a) - max(before) > 14 == config.away
        assert pair.agreement == len(a) - max(before) - 1
        if pair.in_frame:
            rows, columns = np.nonzero((a.frames[-1] != b.frames[-1]).any(axis=-1))
            assert np.ptp(rows) < TILE_SIZE and np.ptp(columns) < TILE_SIZE
        else:
            assert differ == before and a.terminated and b.terminated
            assert min(a.rewards[-1], b.rewards[-1]) == 0 < max(a.rewards[-1], b.rewards[-1])
        assert not a.rewards[:-1].any() and not b.rewards[:-1].any()


def test_pairs_are_the_same_every_time_and_depend_on_the_seed():
    first, again = (record_pairs(ROOMS[0], {}, 3) for _ in range(2))
    other = record_pairs(ROOMS[0], {}, 3, TwinConfig(seed=1))
    assert all(np.array_equal(a.first.frames, b.first.frames) for a, b in zip(first, again, strict=True))
    assert [a.first.seed for a in first] == [a.first.seed for a in other]
    assert any(a.first.actions.tolist() != b.first.actions.tolist() for a, b in zip(first, other, strict=True))
    # Both ends are walked to, and both are sometimes the right one for the world as it is.
    ends = [pair.first.rewards[-1] > 0 for pair in record_pairs(ROOMS[0], {}, 12) if not pair.in_frame]
    assert set(ends) == {True, False}


def test_an_absence_longer_than_an_episode_gives_no_pairs():
    assert record_pairs(ROOMS[0], {"max_steps": 12}, 2) == []


@pytest.mark.parametrize(
    ("env_id", "worlds", "said"),
    [
        ("MiniGrid-Empty-5x5-v0", 1, "MiniGrid-Empty-5x5-v0 has no twins"),
        (ROOMS[0], 0, "at least 1 world"),
    ],
)
def test_what_cannot_be_paired_is_named(env_id, worlds, said):
    with pytest.raises(ValueError, match=said):
        record_pairs(env_id, {}, worlds)


def test_numbers_below_one_are_named():
    with pytest.raises(ValueError, match="at least 1, not 12, 0, 128"):
        TwinConfig(away=0)
