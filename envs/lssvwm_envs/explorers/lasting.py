"""Random actions that last."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from lssvwm_envs.explorers.registry import explorer


@explorer("lasting")
class LastingActions:
    """Random actions that last: a Discrete action is held a few steps, a Box action drifts. Goes further than noise."""

    HOLD = 0.6  # probability of keeping the action, and the drift's correlation

    def __init__(self, envs: VectorEnv, seed: int) -> None:
        self.space, self.num_envs = envs.single_action_space, envs.num_envs
        self.rng = np.random.default_rng(seed)
        self.space.seed(seed)

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Actions (n[, A]); the state is what was done before."""
        drawn = np.stack([self.space.sample() for _ in range(self.num_envs)])
        if state is None:
            return drawn, drawn
        if isinstance(self.space, spaces.Box):
            actions = self.HOLD * state + (1 - self.HOLD**2) ** 0.5 * drawn
            actions = np.clip(actions, self.space.low, self.space.high).astype(drawn.dtype)
        else:
            keep = (self.rng.random(self.num_envs) < self.HOLD).reshape(-1, *[1] * (drawn.ndim - 1))
            actions = np.where(keep, state, drawn)
        return actions, actions
