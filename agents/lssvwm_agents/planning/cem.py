"""The cross-entropy method over action sequences, a `Planner`: sample, score, refit to the best, repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from lssvwm_agents.planning.distributions import family_over
from lssvwm_agents.planning.dynamics import Dynamics
from lssvwm_rl.spaces import action_layout


@dataclass(frozen=True)
class CEMConfig:
    """How long and how hard to search."""

    horizon: int = 12
    """Steps looked ahead."""
    samples: int = 64
    """Sequences scored per iteration."""
    elites: int = 8
    """Best sequences that the distribution is refitted to."""
    iterations: int = 3
    """Rounds of sampling and refitting per plan."""
    temperature: float = 1.0
    """Elites weigh softmax(standardised return / temperature); large values weigh them equally."""
    momentum: float = 0.1
    """Share of the previous distribution kept when refitting."""
    min_probability: float = 0.02
    """Categorical: least probability of every action, so that none is lost for good."""
    init_std: float = 0.5
    """Gaussian: standard deviation of unplanned steps, in half ranges of the Box (1 where it is unbounded)."""
    min_std: float = 0.05
    """Gaussian: least standard deviation, in the same unit."""

    def __post_init__(self) -> None:
        if min(self.horizon, self.samples, self.elites, self.iterations) < 1:
            raise ValueError(f"Horizon, samples, elites and iterations must be at least 1, not {self}.")
        if self.elites > self.samples:
            raise ValueError(f"{self.elites} elites cannot be taken from {self.samples} samples; take fewer elites.")
        if self.temperature <= 0 or not 0 <= self.momentum < 1:
            raise ValueError(f"The temperature must be positive and the momentum in [0, 1), not {self}.")
        if not 0 <= self.min_probability < 1 or not 0 < self.min_std <= self.init_std:
            raise ValueError(f"Need 0 <= min_probability < 1 and 0 < min_std <= init_std, not {self}.")


@dataclass(frozen=True)
class CEMPlan:
    """A batch of distributions over action sequences and the best sequence found for each row."""

    parameters: Tensor
    """(B, horizon, A, K) probabilities for discrete actions, (B, horizon, A, 2) mean and deviation for Box."""
    best: Tensor
    """(B, horizon, A), as the environment takes actions; meaningless where `searched` is False."""
    searched: Tensor
    """(B,) bool: False for a row that still holds the prior."""

    def where(self, mask: Tensor, other: CEMPlan) -> CEMPlan:
        """Rows of this plan where `mask` (B,) bool is True, rows of `other` elsewhere."""
        m = mask.view(-1, 1, 1)
        return CEMPlan(
            torch.where(m[..., None], self.parameters, other.parameters),
            torch.where(m, self.best, other.best),
            torch.where(mask, self.searched, other.searched),
        )


class CEM:
    """Cross-entropy search: categorical for Discrete and MultiDiscrete actions, clipped Gaussian for Box."""

    def __init__(self, config: CEMConfig, action_space: gym.Space) -> None:
        """`action_space` is that of the dynamics; ValueError if CEM has no distribution over it."""
        self.config = config
        self.action_shape, _ = action_layout(action_space)
        self.family = family_over(action_space, config.min_probability, config.init_std, config.min_std)

    def prior(self, rows: int) -> CEMPlan:
        """The plan of B rows about which nothing is known."""
        parameters = self.family.prior().expand(rows, self.config.horizon, -1, -1)
        best = torch.zeros(parameters.shape[:3], dtype=self.family.dtype)
        return CEMPlan(parameters, best, torch.zeros(rows, dtype=torch.bool))

    @torch.no_grad()
    def plan(
        self, dynamics: Dynamics, memory: Any, plan: CEMPlan, generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, CEMPlan, dict[str, Tensor]]:
        """See `Planner.plan`; every row of a plan that was searched before is first moved on by one step.

        Returns:
            The first actions of the best sequences, the plan, and float32 (B,) tensors "best_return" (of the best
            sequences) and "mean_return" (of the last iteration's samples).

        Raises:
            ValueError: if the dynamics return anything but finite numbers.
        """
        config = self.config
        plan = self._shift(plan)
        parameters, best, searched = plan.parameters, plan.best, plan.searched
        returns = torch.empty(0)
        for _ in range(config.iterations):
            candidates = self.family.sample(parameters, config.samples, generators)
            # The best sequence so far competes again. It stands last: the sort is stable, so where all returns are
            # equal (no reward within the horizon) a random sequence wins instead of the same one for ever.
            keep = searched.view(-1, 1, 1)
            candidates[:, -1] = torch.where(keep, best, candidates[:, -1])
            returns = dynamics.evaluate(memory, self._to_env(candidates)).float().cpu()
            if not returns.isfinite().all():
                raise ValueError("The dynamics returned NaN or infinite returns; retrain or replace the checkpoint.")
            order = returns.argsort(dim=1, descending=True, stable=True)[:, : config.elites]
            elites = candidates.gather(1, order[..., None, None].expand(-1, -1, *candidates.shape[2:]))
            weights = self._weights(returns.gather(1, order))
            fitted = self.family.fit(parameters, elites, weights)
            parameters = config.momentum * parameters + (1 - config.momentum) * fitted
            best, searched = elites[:, 0], torch.ones_like(searched)
        info = {"best_return": returns.amax(1), "mean_return": returns.mean(1)}
        return self._to_env(best[:, None])[:, 0, 0], CEMPlan(parameters, best, searched), info

    def _shift(self, plan: CEMPlan) -> CEMPlan:
        # One step has been taken: every distribution moves up by one and the last step knows nothing yet.
        last = self.family.prior().expand_as(plan.parameters[:, :1])
        parameters = torch.cat([plan.parameters[:, 1:], last], dim=1)
        best = torch.cat([plan.best[:, 1:], plan.best[:, -1:]], dim=1)
        parameters = torch.where(plan.searched.view(-1, 1, 1, 1), parameters, plan.parameters)
        return CEMPlan(parameters, best, plan.searched)

    def _weights(self, returns: Tensor) -> Tensor:
        spread = returns.std(dim=1, correction=0, keepdim=True).clamp(min=1e-6)
        return torch.softmax((returns - returns[:, :1]) / spread / self.config.temperature, dim=1)

    def _to_env(self, actions: Tensor) -> Tensor:
        return actions if self.action_shape else actions[..., 0]
