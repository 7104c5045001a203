"""The smallest environment that ends at random: single, as rows, and as the shell of a vector around them."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from lssvwm_envs.rows import advance, check_ready, seed_rows, to_step_result, with_masks

LONGEST = 4
CUT = 3  # an episode that would be longer is truncated
SPACES = spaces.Box(0, LONGEST, (2,), np.int64), spaces.Discrete(9)


class Countdown(gym.Env):
    """Shows the length that was drawn, and the steps; the reward is the action and the steps."""

    observation_space, action_space = SPACES

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.length, self.steps = int(self.np_random.integers(1, LONGEST + 1)), 0
        return self._observe(), {"length": self.length}

    def step(self, action):
        self.steps += 1
        ends = self.steps == self.length, self.steps == CUT
        return self._observe(), float(action + self.steps), *ends, {"steps": self.steps, "place": np.full(2, action)}

    def _observe(self):
        return np.array([self.length, self.steps])


class CountdownStep(NamedTuple):
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    info: dict[str, np.ndarray]


class CountdownRows:
    """Keeps a list of what was asked of it."""

    def __init__(self, count: int):
        self.ended, self.empty = np.zeros(count, bool), np.ones(count, bool)
        self.generators = [seeding.np_random(None)[0] for _ in range(count)]
        self.length, self.steps = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.calls: list[str] = []

    def begin(self, mask: np.ndarray) -> dict[str, Any]:
        self.calls.append(f"begin {np.flatnonzero(mask).tolist()}")
        for i in np.flatnonzero(mask).tolist():
            self.length[i], self.steps[i] = self.generators[i].integers(1, LONGEST + 1), 0
        self.ended, self.empty = self.ended & ~mask, self.empty & ~mask
        return with_masks({"length": np.where(mask, self.length, 0)}, mask)

    def step(self, actions: Any) -> CountdownStep:
        self.calls.append("step")
        goes_on = ~self.ended
        self.steps = self.steps + goes_on
        terminated, truncated = goes_on & (self.steps == self.length), goes_on & (self.steps == CUT)
        self.ended = self.ended | terminated | truncated
        info = {"steps": self.steps.copy(), "place": np.stack([actions, actions], axis=1)}
        return CountdownStep(np.where(goes_on, actions + self.steps, 0.0), terminated, truncated, info)

    def observe(self) -> np.ndarray:
        return np.stack([self.length, self.steps], axis=1)


class CountdownVectorEnv(VectorEnv):
    """All that a vector environment adds to its rows."""

    def __init__(self, num_envs: int, autoreset_mode: AutoresetMode):
        self.rows, self.num_envs, self.autoreset_mode = CountdownRows(num_envs), num_envs, autoreset_mode
        self.metadata = {"autoreset_mode": autoreset_mode}
        self.single_observation_space, self.single_action_space = SPACES
        self.observation_space, self.action_space = (batch_space(space, num_envs) for space in SPACES)

    def reset(self, *, seed=None, options=None):
        info = self.rows.begin(seed_rows(self.rows, seed, options))
        return self.rows.observe(), info

    def step(self, actions):
        check_ready(self.rows, self.autoreset_mode)
        return to_step_result(advance(self.rows, actions, self.autoreset_mode))
