"""The objective `prefix`, the paper's (Po et al. 2025, section 4.3): half of the clips begin with a clean prefix."""

from __future__ import annotations

import torch
from torch import Tensor

from lssvwm_rl.model.flow import add_noise
from lssvwm_rl.training.noise import Clip, Noised


def noised(clip: Clip, generator: torch.Generator) -> Noised:
    """One stream, S = 1."""
    mask = clip.batch.mask
    tau = prefix_tau(clip.tau, mask.sum(dim=1), generator)
    return Noised(
        tokens=add_noise(clip.tokens, clip.noise_tokens, tau)[:, :, None],
        tau=tau[:, :, None],
        steps=None,
        target=clip.x,
        denoised=mask & (tau > 0),
        clean=mask & (tau == 0),
        writes_clean=False,
    )


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
