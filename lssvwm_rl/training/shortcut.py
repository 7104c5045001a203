"""Shortcut training: the network hears how many steps will be taken, and learns that one long step is two short ones.

After Frans et al. 2024, "One Step Diffusion via Shortcut Models" (arXiv 2410.12557). There are schedules of 1, 2, 4 and
8 steps; that of 8 is trained by flow matching, the shorter ones by self-consistency: the target of one step of k
is the frame to which the network's own two steps of 2k lead. That is how 1 or 2 steps come close to 8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lssvwm_rl.model.flow import FINEST, add_noise, euler_step, shift_tau
from lssvwm_rl.model.precision import at_least_fp32
from lssvwm_rl.training.noise import Clip

SHARE = 0.25  # of the rows of a batch that learn self-consistency


@dataclass(frozen=True)
class Shortcut:
    """Which frames of a batch learn long steps.

    Attributes:
        rows: (R,) int64, clips that do; all their frames.
        steps: (B, T) int64, index of the schedule.
        place: (R, T) int64, number of the step in its schedule.
        tau: (B, T), noise level at the step's start; as given in the other rows.
    """

    rows: Tensor
    steps: Tensor
    place: Tensor
    tau: Tensor


def draw_shortcut(tau: Tensor, shift: float, generator: torch.Generator) -> Shortcut:
    """Choose rows of (B, T) noise levels, and a long step for each of their frames."""
    B, T = tau.shape
    rows = torch.randperm(B, generator=generator, device=tau.device)[: max(1, round(SHARE * B))]
    draw = torch.rand(2, len(rows), T, generator=generator, device=tau.device)
    index = (draw[0] * FINEST).long()
    count = 2**index
    place = (draw[1] * count).long()
    steps = torch.full_like(tau, FINEST, dtype=torch.int64)
    steps[rows] = index
    tau = tau.clone()
    tau[rows] = shift_tau(1 - place.to(tau.dtype) / count, shift)
    return Shortcut(rows, steps, place, tau)


def shortcut_target(
    denoise: Callable[[Tensor, Tensor, Tensor], Tensor], noised: Tensor, jump: Shortcut, shift: float
) -> Tensor:
    """The clean frame that one long step must predict to land where two steps of half the length do.

    Args:
        denoise: (x_tau, tau (R, T), steps (R, T)) -> predicted clean frames, without gradient.
        noised: (R, T, ...), the chosen rows at their noise levels.

    Returns:
        (R, T, ...).
    """
    index = jump.steps[jump.rows]
    count = 2**index
    tau, middle, end = (shift_tau(1 - (jump.place + part).to(noised.dtype) / count, shift) for part in (0.0, 0.5, 1.0))
    half = euler_step(noised, denoise(noised, tau, index + 1), tau, middle)
    landed = euler_step(half, denoise(half, middle, index + 1), middle, end)
    ratio = (tau / (end - tau)).view(*tau.shape, *[1] * (noised.ndim - 2))
    return noised - ratio * (landed - noised)


def shortcut_frames(clip: Clip, jump: Shortcut, clean: Tensor, clean_tau: Tensor) -> Tensor:
    """Targets (B, T, h, w, pixels): the frames, and in rows that jump the frame that two half steps lead to.

    Args:
        clean: tokens of the clean stream (B, T, h, w, D), at noise level `clean_tau` (B, T).
    """
    model, batch, rows = clip.model, clip.batch, jump.rows
    vectors = None if batch.vectors is None else batch.vectors[rows]
    start = clip.memory.select(rows)

    @torch.no_grad()
    def denoise(noised: Tensor, tau: Tensor, steps: Tensor) -> Tensor:
        pair = torch.stack([at_least_fp32(model.patch_in(noised)), clean[rows]], dim=2)
        taus = torch.stack([tau, clean_tau[rows]], dim=2)
        both = torch.stack([steps, torch.full_like(steps, FINEST)], dim=2)
        if clip.recalled.tokens is not None:
            pair = pair + clip.recalled.tokens[rows][:, :, None]
        hidden, condition, _ = model.run(pair, taus, batch.actions[rows], vectors, start, steps=both)
        predicted = at_least_fp32(model.predict(hidden[:, :, :1], condition[:, :, :1])[:, :, 0])
        if clip.recalled.picture is None:
            return predicted
        return predicted + tau[:, :, None, None, None] * clip.recalled.picture[rows]

    assert clip.noise is not None, "models that learn shortcuts draw the noise of pixels"
    noised = add_noise(clip.x[rows], clip.noise[rows], jump.tau[rows])
    target = clip.x.clone()
    target[rows] = shortcut_target(denoise, noised, jump, model.config.noise_shift)
    torch.clear_autocast_cache()  # which holds weights cast without gradient, in some versions of torch
    return target
