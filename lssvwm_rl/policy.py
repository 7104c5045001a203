"""Policy: whatever acts, by Stable-Baselines3's `predict`."""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from lssvwm_rl.spaces import space_from_json, space_to_json


class Policy(Protocol):
    """Stable-Baselines3's `predict`, batched over sub-environments."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]: ...


class RandomPolicy:
    """Uniformly random actions; one seed gives one sequence of actions."""

    def __init__(self, action_space: gym.Space, seed: int = 0) -> None:
        """`action_space` is that of a single environment; it is copied through JSON, so its own RNG is untouched."""
        self.action_space = space_from_json(space_to_json(action_space))
        self.action_space.seed(seed)

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """One action per row of `observation`, an array or a dict of arrays."""
        batch = next(iter(observation.values())) if isinstance(observation, dict) else observation
        return np.stack([np.asarray(self.action_space.sample()) for _ in range(len(batch))]), state
