"""Families of distributions over actions, which a search samples from and fits to what was best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from lssvwm_agents.planning.noise import coloured_noise
from lssvwm_rl.spaces import as_choices

MOST_LEFT = 0.5  # of all probability, to actions that were not among the best


class Family(Protocol):
    """Distributions over the A numbers of one action with K parameters each; steps and dimensions are independent."""

    dtype: torch.dtype
    """Of actions: int64 or float32."""

    def prior(self) -> Tensor:
        """(A, K) float32 parameters of an action about which nothing is known."""

    def sample(self, parameters: Tensor, samples: int, generators: Sequence[torch.Generator]) -> Tensor:
        """(B, S, horizon, A) actions from (B, horizon, A, K) parameters."""

    def fit(self, parameters: Tensor, elites: Tensor, weights: Tensor, floor: float = 1.0) -> Tensor:
        """Parameters for elites (B, E, horizon, A) with weights (B, E) that sum to one.

        Args:
            floor: share of a Gaussian's least deviation that holds, so that a search can end more narrowly than the
                next one begins; least probabilities hold whole.
        """

    def blend(self, old: Tensor, new: Tensor, momentum: float) -> Tensor:
        """New parameters that keep a share `momentum` of the old ones, as far as that keeps a search from ending early:
        probabilities and deviations, but not means, which would only follow what was found more slowly."""

    def widen(self, parameters: Tensor) -> Tensor:
        """Parameters (B, horizon, A, K) that a new search can begin with: a Gaussian has its least deviation again."""

    def mode(self, parameters: Tensor) -> Tensor:
        """The likeliest actions (B, horizon, A) of parameters (B, horizon, A, K)."""


class Categorical:
    """Probabilities of the actions of every dimension."""

    dtype = torch.int64

    def __init__(self, sizes: np.ndarray, start: np.ndarray, min_probability: float) -> None:
        """
        Args:
            sizes: (A,) int64, how many actions each dimension has.
            start: (A,) int64, the first of them.
            min_probability: least probability of every action after a fit, so that none is lost for good. Where there
                are so many actions that this would be more than half of all, it is less: half is left to a fit.
        """
        self.start = torch.as_tensor(start, dtype=torch.int64)
        # Dimensions with fewer actions than the widest are padded with actions of probability zero.
        self.allowed = torch.arange(int(sizes.max())) < torch.as_tensor(sizes)[:, None]
        shares = torch.as_tensor(MOST_LEFT / np.asarray(sizes), dtype=torch.float32)
        self.least = shares.clamp(max=min_probability)[:, None] * self.allowed

    def prior(self) -> Tensor:
        return self.allowed / self.allowed.sum(1, keepdim=True)

    def sample(self, parameters: Tensor, samples: int, generators: Sequence[torch.Generator]) -> Tensor:
        shape = (samples, *parameters.shape[1:3])
        uniform = torch.stack([torch.rand(shape, generator=generator) for generator in generators])
        # Inverse CDF. Clamping to the last allowed action absorbs a sum that rounds to just below one.
        above = (uniform[..., None] >= parameters.cumsum(-1)[:, None]).sum(-1)
        return torch.minimum(above, self.allowed.sum(1) - 1) + self.start

    def fit(self, parameters: Tensor, elites: Tensor, weights: Tensor, floor: float = 1.0) -> Tensor:
        chosen = torch.nn.functional.one_hot(elites - self.start, parameters.shape[-1]).to(parameters.dtype)
        frequency = torch.einsum("be,behak->bhak", weights, chosen)
        return self.least + (1 - self.least.sum(1, keepdim=True)) * frequency

    def blend(self, old: Tensor, new: Tensor, momentum: float) -> Tensor:
        return momentum * old + (1 - momentum) * new

    def widen(self, parameters: Tensor) -> Tensor:
        return parameters

    def mode(self, parameters: Tensor) -> Tensor:
        return parameters.argmax(-1) + self.start


class Gaussian:
    """Mean and standard deviation of every dimension; samples are clipped to the bounds."""

    dtype = torch.float32

    def __init__(self, low: np.ndarray, high: np.ndarray, init_std: float, min_std: float, colour: float = 0.0) -> None:
        """
        Args:
            low, high: (A,) bounds, possibly infinite.
            init_std: the prior's standard deviation, in half ranges (1 where there are no bounds).
            min_std: least standard deviation after a fit, in the same unit.
            colour: the noise of samples is `coloured_noise` of this beta over the steps.
        """
        bounded = np.isfinite(low) & np.isfinite(high)
        least, most = np.where(bounded, low, 0.0), np.where(bounded, high, 0.0)
        half_range = np.where(bounded, (most - least) / 2, 1.0)
        center = np.where(bounded, (most + least) / 2, np.clip(0.0, low, high))
        self.low, self.high, self.scale, self.center = (
            torch.as_tensor(x, dtype=torch.float32) for x in (low, high, half_range, center)
        )
        self.init_std, self.min_std, self.colour = init_std, min_std, colour

    def prior(self) -> Tensor:
        return torch.stack([self.center, self.init_std * self.scale], dim=-1)

    def sample(self, parameters: Tensor, samples: int, generators: Sequence[torch.Generator]) -> Tensor:
        shape = (samples, *parameters.shape[1:3])
        normal = torch.empty(len(generators), *shape)
        for row, generator in zip(normal, generators, strict=True):
            coloured_noise(row, self.colour, generator)
        mean, std = parameters[:, None].unbind(-1)
        return normal.mul_(std).add_(mean).clamp_(self.low, self.high)

    def fit(self, parameters: Tensor, elites: Tensor, weights: Tensor, floor: float = 1.0) -> Tensor:
        mean = torch.einsum("be,beha->bha", weights, elites)
        variance = torch.einsum("be,beha->bha", weights, (elites - mean[:, None]).square())
        # A few elites lie nearer to their own mean than to that which they were drawn around: without the factor, the
        # smaller the fewer count, a search would become narrow before it is there. One alone has no deviation.
        free = 1 - weights.square().sum(dim=1)
        std = (variance / free.clamp(min=1e-2)[:, None, None]).sqrt()
        return torch.stack([mean, torch.maximum(std, floor * self.min_std * self.scale)], dim=-1)

    def blend(self, old: Tensor, new: Tensor, momentum: float) -> Tensor:
        return torch.lerp(new, old, torch.tensor([0.0, momentum]))

    def widen(self, parameters: Tensor) -> Tensor:
        mean, std = parameters.unbind(-1)
        return torch.stack([mean, torch.maximum(std, self.min_std * self.scale)], dim=-1)

    def mode(self, parameters: Tensor) -> Tensor:
        return parameters[..., 0]


def family_over(
    space: gym.Space, min_probability: float, init_std: float, min_std: float, colour: float = 0.0
) -> Family:
    """The family for an action space: clipped Gaussian for Box, categorical for the others.

    Args:
        space: of one action.
        min_probability: see `Categorical`.
        init_std, min_std, colour: see `Gaussian`.

    Raises:
        ValueError: for another space.
    """
    space = as_choices(space)
    if isinstance(space, spaces.Discrete):
        return Categorical(np.array([space.n]), np.array([space.start]), min_probability)
    if isinstance(space, spaces.MultiDiscrete):
        return Categorical(space.nvec, space.start, min_probability)
    if isinstance(space, spaces.Box):
        return Gaussian(space.low, space.high, init_std, min_std, colour)
    raise ValueError(f"Action space {space} is not supported; use Discrete, MultiDiscrete or Box.")
