"""Policy: whatever acts, by Stable-Baselines3's `predict`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from lssvwm_rl.spaces import space_from_json, space_to_json


class Policy(Protocol):
    """Stable-Baselines3's `predict`, batched over sub-environments."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]: ...


Row = TypeVar("Row")
Kept = TypeVar("Kept")


def kept_by(
    rows: Sequence[Row], state: Sequence[Kept] | None, episode_start: np.ndarray | None, begin: Callable[[Row], Kept]
) -> list[Kept]:
    """What a policy keeps of every row's episode: begun where an episode starts, and everywhere without a state.

    With a state and no `episode_start`, all go on, as Stable-Baselines3's recurrent policies do.
    """
    if state is None:
        return [begin(row) for row in rows]
    if episode_start is None:
        return list(state)
    return [begin(row) if new else kept for row, kept, new in zip(rows, state, episode_start, strict=True)]


PolicyFactory = Callable[[VectorEnv, int], Policy]
"""Makes a policy for environments and a seed."""


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


class GivenActions:
    """Actions that are known beforehand, which play an episode again in an environment that its seed decides."""

    def __init__(self, actions: np.ndarray) -> None:
        """`actions` are (steps, N[, A])."""
        self.actions = actions

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """The actions (N[, A]) of the next step; the state is how many were taken.

        Raises:
            IndexError: if all were taken.
        """
        taken = 0 if state is None else state
        return self.actions[taken], taken + 1
