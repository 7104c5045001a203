"""Random shooting, a `Planner`: the best of many random sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from lssvwm_agents.planning.distributions import family_over
from lssvwm_agents.planning.dynamics import Dynamics
from lssvwm_agents.planning.search import best_first, env_actions, figures, score
from lssvwm_rl.spaces import action_layout


@dataclass(frozen=True)
class ShootingConfig:
    """How far and how often to shoot."""

    horizon: int = 12
    """Steps looked ahead."""
    samples: int = 192
    """Sequences scored per plan."""
    std: float = 0.5
    """Box: standard deviation around the middle, in half ranges (1 where it is unbounded)."""

    def __post_init__(self) -> None:
        if min(self.horizon, self.samples) < 1 or self.std <= 0:
            raise ValueError(f"Horizon and samples must be at least 1 and std positive, not {self}.")


@dataclass(frozen=True)
class NoPlan:
    """Nothing is carried from step to step."""

    def where(self, mask: Tensor, other: NoPlan) -> NoPlan:
        """Rows of this plan where `mask` (B,) bool is True, rows of `other` elsewhere."""
        return self


class RandomShooting:
    """The best of many sequences from the prior: uniform for Discrete and MultiDiscrete, clipped Gaussian for Box."""

    def __init__(self, config: ShootingConfig, action_space: gym.Space) -> None:
        """`action_space` is that of the dynamics; ValueError if there is no distribution over it."""
        self.config = config
        self.action_shape, _ = action_layout(action_space)
        self.family = family_over(action_space, 0.0, config.std, config.std)

    def prior(self, rows: int) -> NoPlan:
        """See `Planner.prior`."""
        return NoPlan()

    @torch.no_grad()
    def plan(
        self, dynamics: Dynamics, memory: Any, plan: NoPlan, generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, NoPlan, dict[str, Tensor]]:
        """See `Planner.plan`.

        Returns:
            The first actions of the best sequences, the plan, and `search.figures`.

        Raises:
            ValueError: if no candidate of a row has a finite return.
        """
        parameters = self.family.prior().expand(len(generators), self.config.horizon, -1, -1)
        candidates = self.family.sample(parameters, self.config.samples, generators)
        returns = score(dynamics, memory, candidates, self.action_shape)
        _, best = best_first(returns, candidates, 1)
        return env_actions(best[:, 0, 0], self.action_shape), plan, figures([returns])
