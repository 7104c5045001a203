"""Does doubt tell wrong frames? Doubt of dreamt steps against how far their frames are from the real ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.functional import spearman_corrcoef

from lssvwm_rl.data.likeness import shares_off
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.measures.one_step import WRONG_ABOVE
from lssvwm_rl.measures.psnr import decibels, squared_error
from lssvwm_rl.model.doubt import dreams_after_real
from lssvwm_rl.model.engine import Engine
from lssvwm_rl.model.world_model import WorldModel

GROUPS = 10
LEAST = 8  # frames of a group


@dataclass(frozen=True)
class DoubtGroup:
    """Frames between two quantiles of doubt."""

    low: float
    """Quantile in [0, 1]."""
    high: float
    """Quantile in [0, 1]."""
    frames: int
    psnr: float
    """In dB, over all pixels of these frames."""
    wrong: float
    """Share of frames that show another view than the real one (`one_step.WRONG_ABOVE`)."""


@dataclass(frozen=True)
class Calibration:
    """Of N one-step dreams after real frames."""

    groups: tuple[DoubtGroup, ...]
    """From the surest to the most doubtful, of equal size."""
    correlation: float
    """Spearman's, of doubt with the frames' mean squared error; NaN if all of either are equal."""
    frames: int
    """N."""
    psnr: float
    """In dB, of all dreamt frames."""
    copy: float
    """In dB, of the frames before in their place."""


def calibrate(model: WorldModel | Engine, episodes: EpisodeStore, denoise_steps: int = 4) -> Calibration:
    """Dream single steps after the real frames of episodes, those with which `doubt.measure_scale` makes its scale.

    Args:
        episodes: that the model was not trained on.
        denoise_steps: network passes per frame, at least 2.

    Raises:
        ValueError: if no episode has a step.
    """
    doubts, errors, copies, wrong = [], [], [], []
    for before, real, dreamt in dreams_after_real(model, episodes, denoise_steps):
        truth, frames = real.cpu().numpy(), dreamt.frame.cpu().numpy()
        doubts.append(dreamt.doubt.cpu().double().numpy())
        errors.append(squared_error(frames, truth).mean(axis=(1, 2)))
        copies.append(squared_error(before.cpu().numpy(), truth).mean(axis=(1, 2)))
        wrong.append(shares_off(frames, truth) > WRONG_ABOVE)
    return calibration(*(np.concatenate(part) for part in (doubts, errors, copies, wrong)))


def calibration(doubts: np.ndarray, errors: np.ndarray, copies: np.ndarray, wrong: np.ndarray) -> Calibration:
    """Of N frames: doubts, mean squared errors of uint8 values, those of the frames before (N,) float64, and which
    frames are wrong (N,) bool."""
    order = np.argsort(doubts, kind="stable")
    count = max(1, min(GROUPS, len(order) // LEAST))
    groups = tuple(
        DoubtGroup(
            k / count, (k + 1) / count, len(part), decibels(float(errors[part].mean())), float(wrong[part].mean())
        )
        for k, part in enumerate(np.array_split(order, count))
    )
    varied = len(order) > 1 and np.ptp(doubts) > 0 and np.ptp(errors) > 0
    both = (torch.tensor(part.copy(), dtype=torch.float64) for part in (doubts, errors))
    correlation = float(spearman_corrcoef(*both)) if varied else float("nan")
    psnr, copy = (decibels(float(part.mean())) for part in (errors, copies))
    return Calibration(groups, correlation, len(order), psnr, copy)
