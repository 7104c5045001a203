"""The cross-entropy method over action sequences, a `Planner`: sample, score, refit to the best, repeat."""

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
    best_first,
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
    """Share of the previous probabilities or deviations kept when refitting."""
    min_probability: float = 0.02
    """Categorical: least probability of every action, so that none is lost for good."""
    init_std: float = 0.5
    """Gaussian: standard deviation of unplanned steps, in half ranges of the Box (1 where it is unbounded)."""
    min_std: float = 0.05
    """Gaussian: least standard deviation at the beginning of a plan, in the same unit; it falls to 0 within it."""
    seconds: float | None = None
    """No further iteration begins after so long; at least one runs."""

    def __post_init__(self) -> None:
        check_seconds(self.seconds)
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
        return rows_where(mask, self, other)


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
            The first actions of the best sequences, the plan, and `search.figures`.

        Raises:
            ValueError: if no candidate of a row has a finite return.
        """
        config = self.config
        plan = self._move_on(plan)
        parameters, best, searched = plan.parameters, plan.best, plan.searched
        seen: list[Tensor] = []
        for i in rounds(config.iterations, config.seconds):
            candidates = self.family.sample(parameters, config.samples, generators)
            if isinstance(self.family, Gaussian) and config.samples > 2:
                candidates[:, -2] = self.family.mode(parameters)  # in many dimensions better than any sample around it
            # The best sequence so far competes again. It stands last: the sort is stable, so where all returns are
            # equal (no reward within the horizon) a random sequence wins instead of the same one for ever.
            candidates[:, -1] = torch.where(searched.view(-1, 1, 1), best, candidates[:, -1])
            returns = score(dynamics, memory, candidates, self.action_shape)
            seen.append(returns)
            values, elites = best_first(returns, candidates, config.elites)
            # A deviation that never falls below its least would leave the best sequence that far from the optimum.
            floor = 1 - (i + 1) / config.iterations
            fitted = self.family.fit(parameters, elites, weights(values, config.temperature), floor)
            parameters = self.family.blend(parameters, fitted, config.momentum)
            best, searched = elites[:, 0], torch.ones_like(searched)
        first = env_actions(best[:, 0], self.action_shape)
        return first, CEMPlan(parameters, best, searched), figures(seen)

    def _move_on(self, plan: CEMPlan) -> CEMPlan:
        last = self.family.prior().expand_as(plan.parameters[:, :1])
        parameters = self.family.widen(moved_on(plan.parameters, last, plan.searched))
        return CEMPlan(parameters, moved_on(plan.best, plan.best[:, -1:], plan.searched), plan.searched)
