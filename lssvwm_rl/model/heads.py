"""Reward and continuation heads: small MLPs over the features of committed frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_rl.model.precision import at_least_fp32

BINS = 101
FLOOR = 0.05  # of a standard deviation of features
RATE = 0.1  # of the moments, once they are settled
LIMIT = 5.0  # symlog units: rewards up to +-147 times the scale


class Focus(nn.Module):
    """Standardises features by their moments where a head errs.

    Frames in which something is decided look nearly alike, and what decides is small beside what tells them from other
    frames: standardised by moments of all frames, a head is linear on them and cannot learn a product of two things.
    """

    def __init__(self, feature_size: int):
        super().__init__()
        self.mean: Tensor
        self.variance: Tensor
        self.looks: Tensor
        self.register_buffer("mean", torch.zeros(feature_size))
        self.register_buffer("variance", torch.ones(feature_size))
        self.register_buffer("looks", torch.zeros((), dtype=torch.int64))

    def forward(self, features: Tensor) -> Tensor:
        """(..., R) -> (..., R)."""
        return (features - self.mean) * self.scale()

    def scale(self) -> Tensor:
        """(R,), one over the standard deviations."""
        return (self.variance + FLOOR**2).rsqrt()

    @torch.no_grad()
    def look(self, features: Tensor, losses: Tensor) -> None:
        """Follow the moments of features (M, R), each frame counting by its squared loss (M,)."""
        weight = losses.to(features.dtype).square()
        weight = (weight / weight.sum().clamp(min=1e-12))[:, None]
        self.looks += 1
        rate = torch.clamp(1 / self.looks, min=RATE)
        self.mean.lerp_((weight * features).sum(dim=0), rate.to(features.dtype))
        self.variance.lerp_((weight * (features - self.mean).square()).sum(dim=0), rate.to(features.dtype))


class _Head(nn.Module):
    """An MLP with one hidden layer, whose features may be standardised first."""

    def __init__(self, first: nn.Linear, last: nn.Linear, focus: bool):
        super().__init__()
        self.focus = Focus(first.in_features) if focus else nn.Identity()
        self.mlp = nn.Sequential(first, nn.SiLU(), last)

    def hidden(self, features: Tensor) -> Tensor:
        """(..., R) -> (..., width), of the hidden layer before its activation."""
        return self.mlp[0](self.focus(features))

    def outputs(self, hidden: Tensor) -> Tensor:
        """(..., width) -> (..., logits), at least fp32."""
        return at_least_fp32(self.mlp[2](self.mlp[1](hidden)))

    @torch.no_grad()
    def first_layer(self) -> tuple[Tensor, Tensor]:
        """Weight (width, R) and bias (width,) of what standardises and multiplies features."""
        weight, bias = (p.clone() for p in self.mlp[0].parameters())
        if not isinstance(self.focus, Focus):
            return weight, bias
        weight *= self.focus.scale()
        return weight, bias - weight @ self.focus.mean


class RewardHead(_Head):
    """Reward as a distribution over symlog-spaced bins, trained on two-hot targets (Hafner et al. 2023, 2301.04104).

    It is told whether the frame ended the episode, which is often what pays: logits(SiLU(W f + b + e `ended`)) of
    features f, with e 1 where it ended and else 0, and a learnt vector `ended`, zero at first. So a dream pays for its
    end once, when it ends, and not a part of it at every frame that may be the last one.

    Args:
        feature_size: R, features that it reads.
        width: of the MLP's hidden layer.
        focus: whether features are standardised where the head errs.
        scale: rewards that are one unit of the bins, see `WorldModelConfig.reward_scale`.
    """

    def __init__(self, feature_size: int, width: int, focus: bool = False, scale: float = 1.0):
        logits = nn.Linear(width, BINS)
        # Starting at an expected reward of zero keeps the first updates of rare rewards small.
        nn.init.zeros_(logits.weight)
        nn.init.zeros_(logits.bias)
        super().__init__(nn.Linear(feature_size, width), logits, focus)
        self.scale = scale
        self.ended = nn.Parameter(torch.zeros(width))
        self.bins: Tensor
        self.register_buffer("bins", torch.linspace(-LIMIT, LIMIT, BINS), persistent=False)

    def forward(self, features: Tensor, ended: Tensor) -> Tensor:
        """Expected reward (...,), at least fp32, from features (..., R) of frames that `ended` (...,), bool or float,
        the episode or not."""
        return self._expected(self.logits(features, ended))

    def both(self, features: Tensor) -> Tensor:
        """Expected rewards (..., 2), at least fp32: if the episode goes on, and if it ended with the frame."""
        hidden = self.hidden(features)
        # Two products of one shape, not one of both: without an effect of the end both rewards are the same bits.
        return torch.stack([self._expected(self.outputs(h)) for h in (hidden, hidden + self.ended)], dim=-1)

    def logits(self, features: Tensor, ended: Tensor) -> Tensor:
        """(..., BINS), at least fp32; arguments as of `forward`."""
        return self.outputs(self.hidden(features) + ended[..., None] * self.ended)

    def _expected(self, logits: Tensor) -> Tensor:
        return self.scale * symexp((logits.softmax(dim=-1) * self.bins).sum(dim=-1))

    def loss(self, features: Tensor, rewards: Tensor, ended: Tensor) -> Tensor:
        """Cross entropy (...,) against the two-hot encoding of rewards (...,); the rest as of `forward`."""
        logits = self.logits(features, ended)
        target = two_hot(symlog(rewards.to(logits.dtype) / self.scale), LIMIT, BINS)
        return -(target * logits.log_softmax(dim=-1)).sum(dim=-1)


class ContinuationHead(_Head):
    """Probability that the episode terminated with this frame.

    Args: as `RewardHead`.
    """

    def __init__(self, feature_size: int, width: int, focus: bool = False):
        super().__init__(nn.Linear(feature_size, width), nn.Linear(width, 1), focus)

    def forward(self, features: Tensor) -> Tensor:
        """Probabilities (...,), at least fp32, from features (..., R)."""
        return self.logits(features).sigmoid()

    def logits(self, features: Tensor) -> Tensor:
        """(..., R) -> (...,), at least fp32."""
        return self.outputs(self.hidden(features)).squeeze(-1)

    def loss(self, features: Tensor, terminated: Tensor) -> Tensor:
        """Binary cross entropy (...,) against terminated (...,) bool."""
        logits = self.logits(features)
        return F.binary_cross_entropy_with_logits(logits, terminated.to(logits.dtype), reduction="none")


def expected_reward(rewards: Tensor, terminated: Tensor) -> Tensor:
    """(1 - p) r_0 + p r_1 (...,), of `RewardHead.both` (..., 2) and the probability p (...,) of the end."""
    goes_on, ended = rewards.unbind(-1)
    return goes_on + terminated * (ended - goes_on)  # exactly r_0 where both are


def symlog(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|)."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """Inverse of `symlog`."""
    return x.sign() * x.abs().expm1()


def two_hot(x: Tensor, limit: float, bins: int) -> Tensor:
    """Weights (..., bins) on the two grid points around x (...,), whose mean is x clamped to +-limit; NaN for NaN."""
    position = (x.clamp(-limit, limit) + limit) * ((bins - 1) / (2 * limit))
    lower = position.floor().clamp(max=bins - 2)
    upper_weight = (position - lower)[..., None]
    index = lower.nan_to_num(0.0).long()
    return F.one_hot(index, bins) * (1 - upper_weight) + F.one_hot(index + 1, bins) * upper_weight


def vector_head(size: int, width: int, vector_size: int) -> nn.Sequential:
    """Features and the embedded action (..., size) -> the next frame's vector (..., V)."""
    return nn.Sequential(nn.Linear(size, width), nn.SiLU(), nn.Linear(width, vector_size))
