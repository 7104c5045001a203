"""The objective `two_stream`: a clean stream writes the memory, a noised copy of every frame reads it.

Each frame is denoised from exactly the memory that inference will have, and every frame carries loss.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lssvwm_rl.model.flow import FINEST, add_noise
from lssvwm_rl.training.noise import Clip, Noised
from lssvwm_rl.training.shortcut import draw_shortcut, shortcut_frames


def noised(clip: Clip, generator: torch.Generator) -> Noised:
    """Two streams, S = 2; where the model hears the number of denoising steps, some rows learn to take few."""
    model, mask, tau = clip.model, clip.batch.mask, clip.tau
    clean_tau = _context_tau(clip, generator)[:, None].expand(mask.shape)
    # The same noise serves both streams: a noised frame sees only the clean frames before it.
    clean = add_noise(clip.tokens, clip.noise_tokens, clean_tau)
    target, steps = clip.x, None
    if model.config.shortcut:
        jump = draw_shortcut(tau, model.config.noise_shift, generator)
        tau, target = jump.tau, shortcut_frames(clip, jump, clean.detach(), clean_tau)
        steps = torch.stack([jump.steps, torch.full_like(jump.steps, FINEST)], dim=2)
    return Noised(
        tokens=torch.stack([add_noise(clip.tokens, clip.noise_tokens, tau), clean], dim=2),
        tau=torch.stack([tau, clean_tau], dim=2),
        steps=steps,
        target=target,
        denoised=mask,
        clean=mask,
        writes_clean=True,
    )


def _context_tau(clip: Clip, generator: torch.Generator) -> Tensor:
    """(B,) noise level of the clean stream: none in half of the clips, which keeps long dreams from drifting."""
    draw = torch.rand(2, len(clip.tau), generator=generator, device=clip.tau.device).to(clip.tau.dtype)
    return torch.where(draw[0] < 0.5, clip.context_noise * draw[1], 0.0)
