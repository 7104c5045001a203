"""The improved cross-entropy method, a `Planner`: fewer samples, of noise that lasts, and elites that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from lssvwm_agents.planning.distributions import family_over
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
)
from lssvwm_rl.spaces import action_layout


@dataclass(frozen=True)
class ICEMConfig:
    """How long and how hard to search, and what is kept."""

    horizon: int = 12
    """Steps looked ahead."""
    samples: int = 64
    """Sequences drawn in the first iteration."""
    elites: int = 8
    """Best sequences that the distribution is refitted to."""
    iterations: int = 3
    """Rounds of sampling and refitting per plan."""
    decay: float = 1.25
    """Every iteration draws so many times fewer sequences than the one before, but at least two for every elite."""
    keep: float = 0.3
    """Share of the elites, at least the best one, that competes again in the next iteration and at the next step."""
    colour: float = 1.0
    """Gaussian: noise has a power spectrum of frequency ** -colour over the steps; 0 is white, 2 for smooth actions."""
    momentum: float = 0.1
    """Share of the previous probabilities or deviations kept when refitting."""
    min_probability: float = 0.02
    """Categorical: least probability of every action, so that none is lost for good."""
    init_std: float = 0.5
    """Gaussian: standard deviation at the beginning of every plan, in half ranges of the Box (1 if it is unbounded)."""
    seconds: float | None = None
    """No further iteration begins after so long; at least one runs."""

    def __post_init__(self) -> None:
        check_seconds(self.seconds)
        if min(self.horizon, self.elites, self.iterations) < 1 or self.samples < 2 * self.elites:
            raise ValueError(f"Need horizon, elites, iterations of at least 1 and two samples per elite, not {self}.")
        if self.decay < 1 or not 0 < self.keep <= 1 or self.colour < 0 or not 0 <= self.momentum < 1:
            raise ValueError(f"Need decay >= 1, keep in (0, 1], colour >= 0 and momentum in [0, 1), not {self}.")
        if not 0 <= self.min_probability < 1 or self.init_std <= 0:
            raise ValueError(f"Need 0 <= min_probability < 1 and init_std > 0, not {self}.")

    @property
    def kept(self) -> int:
        """Elites that are kept."""
        return max(1, round(self.keep * self.elites))


@dataclass(frozen=True)
class ICEMPlan:
    """A batch of distributions over action sequences and the elites kept for each row."""

    parameters: Tensor
    """(B, horizon, A, K) probabilities for discrete actions, (B, horizon, A, 2) mean and deviation for Box."""
    elites: Tensor
    """(B, kept, horizon, A), best first, as the environment takes actions; meaningless where `searched` is False."""
    searched: Tensor
    """(B,) bool: False for a row that still holds the prior."""

    def where(self, mask: Tensor, other: ICEMPlan) -> ICEMPlan:
        """Rows of this plan where `mask` (B,) bool is True, rows of `other` elsewhere."""
        return rows_where(mask, self, other)


class ICEM:
    """Pinneri et al., "Sample-efficient Cross-Entropy Method for Real-time Planning" (2020, arXiv:2008.06389).

    Gaussian for Box, with noise that is coloured over the steps; categorical for Discrete and MultiDiscrete, where only
    elites are kept, moved on from step to step, and samples become fewer.
    """

    def __init__(self, config: ICEMConfig, action_space: gym.Space) -> None:
        """`action_space` is that of the dynamics; ValueError if there is no distribution over it."""
        self.config = config
        self.action_shape, _ = action_layout(action_space)
        # The least deviation is what a plan begins with; within a plan it may fall to nothing.
        std = config.init_std
        self.family = family_over(action_space, config.min_probability, std, std, config.colour)

    def prior(self, rows: int) -> ICEMPlan:
        """The plan of B rows about which nothing is known."""
        parameters = self.family.prior().expand(rows, self.config.horizon, -1, -1)
        shape = (rows, self.config.kept, *parameters.shape[1:3])
        return ICEMPlan(parameters, torch.zeros(shape, dtype=self.family.dtype), torch.zeros(rows, dtype=torch.bool))

    @torch.no_grad()
    def plan(
        self, dynamics: Dynamics, memory: Any, plan: ICEMPlan, generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, ICEMPlan, dict[str, Tensor]]:
        """See `Planner.plan`; every row of a plan that was searched before is first moved on by one step.

        Returns:
            The first actions of the best sequences, the plan, and `search.figures`.

        Raises:
            ValueError: if no candidate of a row has a finite return.
        """
        config, kept = self.config, self.config.kept
        plan = self._move_on(plan, generators)
        parameters, elites, searched = plan.parameters, plan.elites, plan.searched
        seen: list[Tensor] = []
        for i in rounds(config.iterations, config.seconds):
            count = max(int(config.samples / config.decay**i), 2 * config.elites)
            candidates = self.family.sample(parameters, count + kept, generators)
            if i == config.iterations - 1:
                candidates[:, -kept - 1] = self.family.mode(parameters)
            # What is kept stands last, so that among equals what is new wins.
            candidates[:, -kept:] = torch.where(searched.view(-1, 1, 1, 1), elites, candidates[:, -kept:])
            returns = score(dynamics, memory, candidates, self.action_shape)
            seen.append(returns)
            values, best = best_first(returns, candidates, config.elites)
            equal = values.isfinite() / values.isfinite().sum(dim=1, keepdim=True)
            fitted = self.family.fit(parameters, best, equal, floor=0)
            parameters = self.family.blend(parameters, fitted, config.momentum)
            elites, searched = best[:, :kept], torch.ones_like(searched)
        first = env_actions(elites[:, 0, 0], self.action_shape)
        return first, ICEMPlan(parameters, elites, searched), figures(seen)

    def _move_on(self, plan: ICEMPlan, generators: Sequence[torch.Generator]) -> ICEMPlan:
        last = self.family.prior().expand_as(plan.parameters[:, :1])
        drawn = self.family.sample(last, self.config.kept, generators)
        parameters = self.family.widen(moved_on(plan.parameters, last, plan.searched))
        moved = moved_on(plan.elites.transpose(1, 2), drawn.transpose(1, 2), plan.searched)
        return ICEMPlan(parameters, moved.transpose(1, 2), plan.searched)
