"""Noise levels of training, how errors are weighed, and what an objective is given and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lssvwm_rl.data.clips import Batch
from lssvwm_rl.model.backends import native_kernels
from lssvwm_rl.model.flow import shift_tau
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.precision import at_least_fp32
from lssvwm_rl.model.recollection import Recollected, Written
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.native.pixels import Shown, cut_patches

MAX_RARITY = 30.0


@dataclass(frozen=True)
class Clip:
    """A batch of B clips of T frames before an objective decides what of it is noised."""

    model: WorldModel
    batch: Batch
    memory: Memory
    """Before the first frame of every clip."""
    x: Tensor
    """Clean patches (B, T, h, w, pixels)."""
    noise: Tensor | None
    """Standard normal, as x; None if noise is drawn in token space."""
    tokens: Tensor
    """The clean patches, embedded (B, T, h, w, D)."""
    noise_tokens: Tensor
    """Noise with the distribution of standard normal patches that are embedded likewise."""
    tau: Tensor
    """(B, T), an independent noise level for every frame."""
    context_noise: float
    """See `ObjectiveConfig.context_noise`."""
    recalled: Recollected
    """What the parts that are never trained tell of every frame."""
    written: Written
    """What frames leave there."""


@dataclass(frozen=True)
class Noised:
    """What the model sees of a batch, and what it is asked."""

    tokens: Tensor
    """(B, T, S, h, w, D); of two streams the first reads and the last one writes the memory."""
    tau: Tensor
    """(B, T, S)."""
    steps: Tensor | None
    """(B, T, S) int64, index of the denoising schedule (`flow.steps_index`); the finest if None."""
    target: Tensor
    """(B, T, h, w, pixels), what the first stream is to become."""
    denoised: Tensor
    """(B, T) bool, frames with a frame loss."""
    clean: Tensor
    """(B, T) bool, frames that the last stream holds as inference commits them: heads learn from these."""
    writes_clean: bool
    """Whether that is so of all frames, so that the memory after the clip can be carried on."""


def sample_tau(shape: Sequence[int], shift: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """Noise levels in (0, 1): uniform, then shifted towards noise for shift > 1 (Esser et al. 2024, 2403.03206)."""
    return shift_tau(torch.rand(tuple(shape), generator=generator, device=device), shift)


def patches_of(model: WorldModel, frames: Tensor) -> Tensor:
    """Clean patches (B, T, h, w, pixels * C), of the model's dtype, of frames (B, T, H, W, C) uint8."""
    kernels = native_kernels(model.config.backbone.backend, model.position, frames)
    if kernels is None:
        return model.patches.from_frames(frames, model.dtype)
    padded = model.patches.pad(frames).flatten(0, 1).contiguous()
    shown = Shown(padded, (model.patches.height, model.patches.width))
    return cut_patches(kernels, shown, model.dtype).unflatten(0, frames.shape[:2])


def draw_noise(model: WorldModel, shape: Sequence[int], generator: torch.Generator) -> tuple[Tensor | None, Tensor]:
    """Noise for tokens of shape (..., D), as pixels (..., pixels * C) and embedded (..., D).

    In token space (`ModelConfig.token_noise`) there are no pixels: the embedded noise has their distribution.
    """
    device, token_noise = model.device, model.config.token_noise
    factor = model.noise_factor() if token_noise else model.patch_in.weight.t()
    noise = torch.randn((*shape[:-1], len(factor)), generator=generator, device=device).to(model.dtype)
    if token_noise:
        return None, at_least_fp32(F.linear(noise, factor.t(), model.patch_in.bias))
    return noise, at_least_fp32(model.patch_in(noise))


def velocity_loss(predicted: Tensor, x: Tensor, tau: Tensor, weight: Tensor, floor: float) -> Tensor:
    """Weighted mean squared velocity error per frame, |x_hat - x|^2 / max(tau, floor)^2.

    Args:
        predicted: (B, T, h, w, pixels * C).
        x: likewise, what is true.
        tau: (B, T).
        weight: (B, T, h, w, pixels).
        floor: of the noise levels that errors are divided by, see `ObjectiveConfig.tau_floor`.

    Returns:
        (B, T).
    """
    return over_tau(weighted_error(predicted, x, weight), tau, floor)


def over_tau(error: Tensor, tau: Tensor, floor: float) -> Tensor:
    """The squared error of velocities that squared errors of frames mean, both as tau, (B, T)."""
    return error / tau.clamp(min=floor).square()


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
        power: 0 gives all pixels the same weight.

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
    return colour_weight(counts, power)[colour]


def colour_weight(counts: Tensor, power: float) -> Tensor:
    """The weight that `rarity_weight` gives every colour, float32, from how often each is there."""
    share = counts.float() / counts.sum().clamp(min=1)
    # w = p ** -power; a colour that is nowhere has no weight. The mean weight over pixels is sum(p * w).
    weight = torch.where(counts > 0, share.clamp(min=1e-9) ** -power, 0.0)
    # A colour of a pixel or two must not outweigh all else: at most MAX_RARITY times the mean.
    weight = weight.clamp(max=MAX_RARITY * (share * weight).sum())
    # Divided by the mean of what is left after that, so that it is 1.
    return weight / (share * weight).sum().clamp(min=1e-9)
