"""Reward and continuation heads: small MLPs over the features of committed frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_rl.model.precision import at_least_fp32

BINS = 101
LIMIT = 5.0  # symlog units: rewards up to +-147


class RewardHead(nn.Module):
    """Reward as a distribution over symlog-spaced bins, trained on two-hot targets (Hafner et al. 2023, 2301.04104).

    Args:
        feature_size: R, features that it reads.
        width: of the MLP's hidden layer.
    """

    def __init__(self, feature_size: int, width: int):
        super().__init__()
        logits = nn.Linear(width, BINS)
        # Starting at an expected reward of zero keeps the first updates of rare rewards small.
        nn.init.zeros_(logits.weight)
        nn.init.zeros_(logits.bias)
        self.mlp = nn.Sequential(nn.Linear(feature_size, width), nn.SiLU(), logits)
        self.bins: Tensor
        self.register_buffer("bins", torch.linspace(-LIMIT, LIMIT, BINS), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Expected reward (...,), at least fp32, from features (..., R)."""
        return symexp((at_least_fp32(self.mlp(features)).softmax(dim=-1) * self.bins).sum(dim=-1))

    def loss(self, features: Tensor, rewards: Tensor) -> Tensor:
        """Cross entropy (...,) against the two-hot encoding of rewards (...,)."""
        logits = at_least_fp32(self.mlp(features))
        target = two_hot(symlog(rewards.to(logits.dtype)), LIMIT, BINS)
        return -(target * logits.log_softmax(dim=-1)).sum(dim=-1)


class ContinuationHead(nn.Module):
    """Probability that the episode terminated with this frame.

    Args: as `RewardHead`.
    """

    def __init__(self, feature_size: int, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(feature_size, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Probabilities (...,), at least fp32, from features (..., R)."""
        return at_least_fp32(self.mlp(features)).squeeze(-1).sigmoid()

    def loss(self, features: Tensor, terminated: Tensor) -> Tensor:
        """Binary cross entropy (...,) against terminated (...,) bool."""
        logits = at_least_fp32(self.mlp(features)).squeeze(-1)
        return F.binary_cross_entropy_with_logits(logits, terminated.to(logits.dtype), reduction="none")


def symlog(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|)."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """Inverse of `symlog`."""
    return x.sign() * x.abs().expm1()


def two_hot(x: Tensor, limit: float, bins: int) -> Tensor:
    """Weights (..., bins) on the two grid points around x (...,), whose mean is x clamped to +-limit."""
    position = (x.clamp(-limit, limit) + limit) * ((bins - 1) / (2 * limit))
    lower = position.floor().clamp(max=bins - 2)
    upper_weight = (position - lower)[..., None]
    index = lower.long()
    return F.one_hot(index, bins) * (1 - upper_weight) + F.one_hot(index + 1, bins) * upper_weight
