"""The cross-entropy method over action sequences: sample, score, refit to the best, repeat.

Pure: a plan goes in, a new plan comes out, and all randomness is in the generators that are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

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
class Plan:
    """A batch of distributions over action sequences and the best sequence found for each row."""

    parameters: Tensor
    """(B, horizon, A, K) probabilities for discrete actions, (B, horizon, A, 2) mean and deviation for Box."""
    best: Tensor
    """(B, horizon, A), as the environment takes actions; meaningless where `searched` is False."""
    searched: Tensor
    """(B,) bool: False for a row that still holds the prior."""

    def where(self, mask: Tensor, other: Plan) -> Plan:
        """Rows of this plan where `mask` (B,) bool is True, rows of `other` elsewhere."""
        m = mask.view(-1, 1, 1)
        return Plan(
            torch.where(m[..., None], self.parameters, other.parameters),
            torch.where(m, self.best, other.best),
            torch.where(mask, self.searched, other.searched),
        )


class CEM:
    """Cross-entropy search: categorical for Discrete and MultiDiscrete actions, clipped Gaussian for Box."""

    def __init__(self, config: CEMConfig, action_space: gym.Space) -> None:
        self.config = config
        self.action_shape, _ = action_layout(action_space)
        self.family = _family(config, action_space)

    def prior(self, batch_size: int) -> Plan:
        """The plan of a row about which nothing is known."""
        parameters = self.family.prior().expand(batch_size, self.config.horizon, -1, -1)
        best = torch.zeros(parameters.shape[:3], dtype=self.family.dtype)
        return Plan(parameters, best, torch.zeros(batch_size, dtype=torch.bool))

    @torch.no_grad()
    def plan(
        self, dynamics: Dynamics, memory: Any, plan: Plan | None, generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, Plan, dict[str, Tensor]]:
        """Search on from `plan`, the plan of the previous step, or from the prior.

        Args:
            memory: where the dynamics start, B rows.
            plan: what the previous call returned, B rows.
            generators: one CPU generator per row, so that a row does not depend on its neighbours.

        Returns:
            The action to take now, (B,) or (B, A), int64 or float32; the new plan; and float32 (B,) tensors
            "best_return" (of the chosen sequence) and "mean_return" (of the last iteration's samples).

        Raises:
            ValueError: if the dynamics return anything but finite numbers.
        """
        config = self.config
        plan = self.prior(len(generators)) if plan is None else self._shift(plan)
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
        return self._to_env(best[:, None])[:, 0, 0], Plan(parameters, best, searched), info

    def _shift(self, plan: Plan) -> Plan:
        # One step has been taken: every distribution moves up by one and the last step knows nothing yet.
        last = self.family.prior().expand_as(plan.parameters[:, :1])
        parameters = torch.cat([plan.parameters[:, 1:], last], dim=1)
        best = torch.cat([plan.best[:, 1:], plan.best[:, -1:]], dim=1)
        fresh = ~plan.searched.view(-1, 1, 1)
        parameters = torch.where(fresh[..., None], plan.parameters, parameters)
        return Plan(parameters, best, plan.searched)

    def _weights(self, returns: Tensor) -> Tensor:
        spread = returns.std(dim=1, correction=0, keepdim=True).clamp(min=1e-6)
        return torch.softmax((returns - returns[:, :1]) / spread / self.config.temperature, dim=1)

    def _to_env(self, actions: Tensor) -> Tensor:
        return actions if self.action_shape else actions[..., 0]


class _Family(Protocol):
    """Distributions over one action; steps and dimensions are independent."""

    dtype: torch.dtype

    def prior(self) -> Tensor:
        """(A, K) parameters."""

    def sample(self, parameters: Tensor, samples: int, generators: Sequence[torch.Generator]) -> Tensor:
        """(B, S, horizon, A) actions from (B, horizon, A, K) parameters."""

    def fit(self, parameters: Tensor, elites: Tensor, weights: Tensor) -> Tensor:
        """Parameters for elites (B, E, horizon, A) with weights (B, E) that sum to one."""


class _Categorical:
    dtype = torch.int64

    def __init__(self, sizes: np.ndarray, start: np.ndarray, min_probability: float) -> None:
        if min_probability * int(sizes.max()) > 1:
            raise ValueError(
                f"min_probability {min_probability} times {int(sizes.max())} actions exceeds 1; use a smaller one."
            )
        self.start = torch.as_tensor(start, dtype=torch.int64)
        # Dimensions with fewer actions than the widest are padded with actions of probability zero.
        self.allowed = torch.arange(int(sizes.max())) < torch.as_tensor(sizes)[:, None]
        self.min_probability = min_probability

    def prior(self) -> Tensor:
        return self.allowed / self.allowed.sum(1, keepdim=True)

    def sample(self, parameters: Tensor, samples: int, generators: Sequence[torch.Generator]) -> Tensor:
        shape = (samples, *parameters.shape[1:3])
        uniform = torch.stack([torch.rand(shape, generator=generator) for generator in generators])
        # Inverse CDF. Clamping to the last allowed action absorbs a sum that rounds to just below one.
        above = (uniform[..., None] >= parameters.cumsum(-1)[:, None]).sum(-1)
        return torch.minimum(above, self.allowed.sum(1) - 1) + self.start

    def fit(self, parameters: Tensor, elites: Tensor, weights: Tensor) -> Tensor:
        chosen = torch.nn.functional.one_hot(elites - self.start, parameters.shape[-1]).to(parameters.dtype)
        frequency = torch.einsum("be,behak->bhak", weights, chosen)
        floor = self.min_probability * self.allowed
        return floor + (1 - floor.sum(1, keepdim=True)) * frequency


class _Gaussian:
    dtype = torch.float32

    def __init__(self, low: np.ndarray, high: np.ndarray, init_std: float, min_std: float) -> None:
        bounded = np.isfinite(low) & np.isfinite(high)
        half_range = np.where(bounded, (high - low) / 2, 1.0)
        center = np.where(bounded, (high + low) / 2, np.clip(0.0, low, high))
        self.low, self.high, self.scale, self.center = (
            torch.as_tensor(x, dtype=torch.float32) for x in (low, high, half_range, center)
        )
        self.init_std, self.min_std = init_std, min_std

    def prior(self) -> Tensor:
        return torch.stack([self.center, self.init_std * self.scale], dim=-1)

    def sample(self, parameters: Tensor, samples: int, generators: Sequence[torch.Generator]) -> Tensor:
        shape = (samples, *parameters.shape[1:3])
        normal = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        mean, std = parameters[:, None].unbind(-1)
        return torch.clamp(mean + std * normal, self.low, self.high)

    def fit(self, parameters: Tensor, elites: Tensor, weights: Tensor) -> Tensor:
        mean = torch.einsum("be,beha->bha", weights, elites)
        std = torch.einsum("be,beha->bha", weights, (elites - mean[:, None]) ** 2).sqrt()
        return torch.stack([mean, torch.maximum(std, self.min_std * self.scale)], dim=-1)


def _family(config: CEMConfig, space: gym.Space) -> _Family:
    if isinstance(space, spaces.Discrete):
        return _Categorical(np.array([space.n]), np.array([space.start]), config.min_probability)
    if isinstance(space, spaces.MultiDiscrete):
        return _Categorical(space.nvec, space.start, config.min_probability)
    if isinstance(space, spaces.Box):
        return _Gaussian(space.low, space.high, config.init_std, config.min_std)
    raise ValueError(f"Action space {space} is not supported; use Discrete, MultiDiscrete or Box.")
