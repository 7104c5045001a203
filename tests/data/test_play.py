"""The loop that plays: which worlds, in which rows, what the policy is told, and what is refused."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from lssvwm_rl.data.play import Start, Step, play
from lssvwm_rl.policy import GivenActions


class Countdown(gym.Env):
    """Episodes of seed % 10 steps, whose observation is (seed, steps); an action is the reward."""

    action_space = spaces.Discrete(5)
    observation_space = spaces.Box(0, 1000, (2,), np.int64)

    def __init__(self, resets: list[int | None]):
        self.resets = resets

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.resets.append(seed)
        self.seed, self.steps = seed, 0
        return np.array([self.seed, 0]), {}

    def step(self, action):
        self.steps += 1
        return np.array([self.seed, self.steps]), float(action), self.steps == self.seed % 10, False, {}


class Clock:
    """Acts by the steps of its episode, and notes what it is called with."""

    def __init__(self):
        self.calls: list[tuple[np.ndarray, np.ndarray, bool]] = []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        self.calls.append((observation.copy(), episode_start.copy(), deterministic))
        taken = np.where(episode_start, 0, 0 if state is None else state)
        return taken % 5, taken + 1


def countdowns(n: int) -> tuple[SyncVectorEnv, list[int | None]]:
    resets: list[int | None] = []
    return SyncVectorEnv([lambda: Countdown(resets)] * n, autoreset_mode=AutoresetMode.DISABLED), resets


def episodes_of(events) -> list[tuple[int, int, list[int], list[float]]]:
    """(row, seed, steps of the observations, rewards) of every episode, in the order of their ends."""
    running: dict[int, tuple[int, list[int], list[float]]] = {}
    ended = []
    for event in events:
        for i in np.flatnonzero(event.rows).tolist():
            seed, steps = event.observation[i].tolist()
            if isinstance(event, Start):
                assert i not in running and seed == event.seeds[i]
                running[i] = (seed, [steps], [])
                continue
            world, seen, rewards = running[i]
            assert seed == world
            seen.append(steps)
            rewards.append(float(event.rewards[i]))
            if event.ended[i]:
                ended.append((i, *running.pop(i)))
    assert not running, "every episode is finished"
    return ended


def whole(row: int, seed: int) -> tuple[int, int, list[int], list[float]]:
    length = seed % 10
    return row, seed, list(range(length + 1)), [float(t % 5) for t in range(length)]


def test_rows_share_seeds_and_take_the_next_one_as_they_end():
    envs, resets = countdowns(2)
    queue = iter([13, 21, 32, 46])
    assert episodes_of(play(envs, Clock(), [queue, queue])) == [whole(1, 21), whole(0, 13), whole(1, 32), whole(0, 46)]
    assert resets[:4] == [13, 21, 32, 46] and set(resets) == {13, 21, 32, 46}, "every reset has a seed of ours"


def test_rows_with_seeds_of_their_own_play_them_whatever_runs_beside():
    envs, _ = countdowns(3)
    found = episodes_of(play(envs, Clock(), [iter([19, 11]), iter([12, 22, 31]), iter([15])]))
    assert sorted(found) == [whole(0, 11), whole(0, 19), whole(1, 12), whole(1, 22), whole(1, 31), whole(2, 15)]


def test_the_policy_is_told_where_episodes_begin():
    envs, _ = countdowns(2)
    policy = Clock()
    events = list(play(envs, policy, [iter([12, 23]), iter([13])], deterministic=True))
    for observation, start, deterministic in policy.calls:
        assert np.array_equal(start, observation[:, 1] == 0) and deterministic
    steps = [event for event in events if isinstance(event, Step)]
    assert len(steps) == len(policy.calls) == 5
    assert [step.rows.tolist() for step in steps] == [[True, True]] * 3 + [[True, False]] * 2
    assert [step.ended.tolist() for step in steps] == [[False] * 2, [True, False], [False, True], [False] * 2,
                                                      [True, False]]  # fmt: skip


def test_given_actions_play_an_episode_again():
    envs, _ = countdowns(1)
    actions = np.array([4, 0, 3])
    assert episodes_of(play(envs, GivenActions(actions[:, None]), [iter([13])])) == [(0, 13, [0, 1, 2, 3], [4, 0, 3])]


@pytest.mark.parametrize("actions", [np.array([[0, 5]]), np.array([[0]]), np.array([[0.0, 1.0]])])
def test_actions_that_do_not_exist_are_named(actions):
    envs, _ = countdowns(2)
    with pytest.raises(ValueError, match=r"The policy gave actions \[.*\], which are not in Discrete\(5\)"):
        list(play(envs, GivenActions(actions), [iter([13]), iter([14])]))


def test_every_row_needs_a_seed_to_begin_with():
    envs, resets = countdowns(2)
    for seeds in ([iter([13]), iter([])], [iter([13])]):
        with pytest.raises(ValueError, match="2 environments need a seed each"):
            next(play(envs, Clock(), seeds))
    assert resets == []
