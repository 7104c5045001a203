"""Noise levels of training, and how errors are weighed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lssvwm_rl.model.flow import shift_tau

TAU_FLOOR = 0.05
MAX_RARITY = 30.0


def sample_tau(shape: Sequence[int], shift: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """Noise levels in (0, 1): uniform, then shifted towards noise for shift > 1 (Esser et al. 2024, 2403.03206)."""
    return shift_tau(torch.rand(tuple(shape), generator=generator, device=device), shift)


def velocity_loss(predicted: Tensor, x: Tensor, tau: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean squared velocity error per frame, |x_hat - x|^2 / max(tau, 0.05)^2.

    Args:
        predicted, x: (B, T, h, w, pixels * C).
        tau: (B, T).
        weight: (B, T, h, w, pixels).

    Returns:
        (B, T).
    """
    return weighted_error(predicted, x, weight) / tau.clamp(min=TAU_FLOOR).square()


def weighted_error(predicted: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Mean squared error of patches (..., h, w, pixels * C), every pixel counting by its weight (..., h, w, pixels)."""
    channels = x.shape[-1] // weight.shape[-1]
    root = weight.sqrt()[..., None].expand(*weight.shape, channels).flatten(-2)
    # The norm, squared, because it reads the errors once and keeps no squares of them.
    error = torch.linalg.vector_norm((predicted - x) * root, dim=(-3, -2, -1))
    return error.square() / x.shape[-3:].numel()


def rarity_weight(frames: Tensor, mask: Tensor, power: float) -> Tensor:
    """Weights of pixels that count rare colours more, as in colourisation (Zhang et al. 2016, arXiv 1603.08511).

    What matters in a frame can be tiny: a key and a ball in MiniGrid differ by 29 of 3136 pixels, whose error vanishes
    beside that of the walls. A colour that makes up a share p of the batch weighs p ** -power, at most `MAX_RARITY`
    times the mean weight; the mean over real frames is 1.

    Args:
        frames: (B, T, H, W, C) uint8.
        mask: (B, T) bool, real frames.
        power: 0 weighs all pixels alike.

    Returns:
        (B, T, H, W) float32.
    """
    # A colour is its channels' three highest bits, as one number: 512 colours of RGB.
    levels = frames >> 5
    colour = levels[..., 0].int()
    for channel in range(1, frames.shape[-1]):
        colour = (colour << 3).add_(levels[..., channel])
    # p, each colour's share of the real frames' pixels; padding is not counted.
    counts = torch.bincount(colour[mask].flatten(), minlength=8 ** frames.shape[-1])
    share = counts.float() / counts.sum().clamp(min=1)
    # w = p ** -power; a colour that is nowhere has no weight. The mean weight over pixels is sum(p * w).
    weight = torch.where(counts > 0, share.clamp(min=1e-9) ** -power, 0.0)
    # A colour of a pixel or two must not outweigh all else: at most MAX_RARITY times the mean.
    weight = weight.clamp(max=MAX_RARITY * (share * weight).sum())
    # Divided by the mean of what is left after that, so that it is 1, and looked up for every pixel.
    return (weight / (share * weight).sum().clamp(min=1e-9))[colour]


def prefix_tau(tau: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
    """The `prefix` objective: with probability 0.5 a random prefix longer than half the clip stays clean.

    Args:
        tau: (B, T) independent noise levels.
        lengths: (B,) real frames of each clip.
        generator: on tau's device.

    Returns:
        (B, T) noise levels, 0 inside the prefix (Po et al. 2025, section 4.3).
    """
    B, T = tau.shape
    draw = torch.rand(2, B, generator=generator, device=tau.device)
    half = lengths // 2 + 1
    prefix = half + (draw[0] * (lengths - half).clamp(min=0)).long()
    clean = (torch.arange(T, device=tau.device) < prefix[:, None]) & (draw[1] < 0.5)[:, None]
    return tau.masked_fill(clean, 0.0)
