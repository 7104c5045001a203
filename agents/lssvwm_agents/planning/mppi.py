"""Model predictive path integral control, a `Planner`: all samples count, the better the more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from lssvwm_agents.planning.distributions import Gaussian, family_over
from lssvwm_agents.planning.dynamics import Dynamics
from lssvwm_agents.planning.search import (
    check_seconds,
    env_actions,
    figures,
    moved_on,
    rounds,
    rows_where,
    score,
    weights,
)
from lssvwm_rl.spaces import action_layout


@dataclass(frozen=True)
class MPPIConfig:
    """How long and how hard to search."""

    horizon: int = 12
    """Steps looked ahead."""
    samples: int = 64
    """Sequences scored per iteration."""
    iterations: int = 3
    """Rounds of sampling and weighing per plan."""
    temperature: float = 0.3
    """Samples weigh softmax(standardised return / temperature), so that it means the same whatever a reward is worth;
    with a small one only the best count."""
    min_probability: float = 0.02
    """Categorical: least probability of every action, so that none is lost for good."""
    std: float = 0.3
    """Gaussian: standard deviation of samples, in half ranges of the Box (1 where it is unbounded)."""
    seconds: float | None = None
    """No further iteration begins after so long; at least one runs."""

    def __post_init__(self) -> None:
        check_seconds(self.seconds)
        if min(self.horizon, self.samples, self.iterations) < 1:
            raise ValueError(f"Horizon, samples and iterations must be at least 1, not {self}.")
        if self.temperature <= 0 or self.std <= 0 or not 0 <= self.min_probability < 1:
            raise ValueError(f"Need temperature > 0, std > 0 and 0 <= min_probability < 1, not {self}.")


@dataclass(frozen=True)
class MPPIPlan:
    """A batch of distributions over action sequences."""

    parameters: Tensor
    """(B, horizon, A, K) probabilities for discrete actions, (B, horizon, A, 2) mean and deviation for Box."""
    searched: Tensor
    """(B,) bool: False for a row that still holds the prior."""

    def where(self, mask: Tensor, other: MPPIPlan) -> MPPIPlan:
        """Rows of this plan where `mask` (B,) bool is True, rows of `other` elsewhere."""
        return rows_where(mask, self, other)


class MPPI:
    """Williams et al., "Information Theoretic MPC for Model-Based Reinforcement Learning" (2017).

    For Box the mean of all samples, weighted by the exponentials of their returns, around which the next ones have the
    same deviation as before; for Discrete and MultiDiscrete the frequencies of actions, weighted in the same way.
    """

    def __init__(self, config: MPPIConfig, action_space: gym.Space) -> None:
        """`action_space` is that of the dynamics; ValueError if there is no distribution over it."""
        self.config = config
        self.action_shape, _ = action_layout(action_space)
        self.family = family_over(action_space, config.min_probability, config.std, config.std)

    def prior(self, rows: int) -> MPPIPlan:
        """The plan of B rows about which nothing is known."""
        parameters = self.family.prior().expand(rows, self.config.horizon, -1, -1)
        return MPPIPlan(parameters, torch.zeros(rows, dtype=torch.bool))

    @torch.no_grad()
    def plan(
        self, dynamics: Dynamics, memory: Any, plan: MPPIPlan, generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, MPPIPlan, dict[str, Tensor]]:
        """See `Planner.plan`; every row of a plan that was searched before is first moved on by one step.

        Returns:
            The mean or likeliest first actions, the plan, and `search.figures`.

        Raises:
            ValueError: if no candidate of a row has a finite return.
        """
        config = self.config
        last = self.family.prior().expand_as(plan.parameters[:, :1])
        parameters = moved_on(plan.parameters, last, plan.searched)
        seen: list[Tensor] = []
        for _ in rounds(config.iterations, config.seconds):
            candidates = self.family.sample(parameters, config.samples, generators)
            returns = score(dynamics, memory, candidates, self.action_shape)
            seen.append(returns)
            fitted = self.family.fit(parameters, candidates, weights(returns, config.temperature))
            if isinstance(self.family, Gaussian):  # the deviation is a setting here, not a finding
                fitted = torch.stack([fitted[..., 0], parameters[..., 1]], dim=-1)
            parameters = fitted
        first = env_actions(self.family.mode(parameters)[:, 0], self.action_shape)
        return first, MPPIPlan(parameters, torch.ones_like(plan.searched)), figures(seen)
