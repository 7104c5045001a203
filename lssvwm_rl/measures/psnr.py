"""Retrieval: frames predicted from a memory of all real frames before, judged where only memory can help."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lssvwm_rl.data.store import Episode
from lssvwm_rl.model.predict import predict_frames
from lssvwm_rl.model.world_model import WorldModel


def predict_every_frame(model: WorldModel, episodes: Sequence[Episode], denoise_steps: int = 4) -> list[np.ndarray]:
    """Every frame but the first, dreamt from the real frames before it (teacher-forced), all episodes side by side.

    The vector of the predicted frame, if the model has vectors, is given as it was: pose-conditioned prediction.

    Returns:
        Per episode (T, H, W, C) uint8, the predictions of frames 1..T.
    """
    predicted = predict_frames(model, episodes, 1, False, denoise_steps, rows=len(episodes))
    return [predicted[i, : len(e)] for i, e in enumerate(episodes)]


def psnr_by_mask(
    predicted: Sequence[np.ndarray], episodes: Sequence[Episode], masks: Sequence[np.ndarray], names: Mapping[int, str]
) -> dict[str, float]:
    """PSNR in dB over the pixels of each class.

    Args:
        predicted: as `predict_every_frame` gives them.
        masks: per episode the class of every pixel of frames 0..T, (T+1, H, W).
        names: of the classes.

    Returns:
        Name -> PSNR; NaN for a class without pixels.
    """
    errors = {value: 0.0 for value in names}
    counts = {value: 0 for value in names}
    for frames, episode, mask in zip(predicted, episodes, masks, strict=True):
        error = np.square(frames.astype(np.float64) - episode.frames[1:]).mean(axis=-1)
        for value in names:
            chosen = mask[1:] == value
            errors[value] += float(error[chosen].sum())
            counts[value] += int(chosen.sum())
    return {name: decibels(errors[v] / counts[v]) if counts[v] else math.nan for v, name in names.items()}


def decibels(squared_error: float) -> float:
    """PSNR of a mean squared error of uint8 values; of none at all, 138 dB (`EXACT`)."""
    return 10 * math.log10(255**2 / max(squared_error, 1e-9))


EXACT = decibels(0.0)
