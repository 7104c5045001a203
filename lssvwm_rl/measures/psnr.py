"""PSNR of uint8 frames: of all pixels, or of those of a class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np


def psnr(predicted: np.ndarray, real: np.ndarray) -> float:
    """PSNR in dB of uint8 frames (..., H, W, C), from the error over all of them."""
    return decibels(float(squared_error(predicted, real).mean()))


def psnr_by_mask(
    predicted: Sequence[np.ndarray], real: Sequence[np.ndarray], masks: Sequence[np.ndarray], names: Mapping[int, str]
) -> dict[str, float]:
    """PSNR in dB over the pixels of each class.

    Args:
        predicted: per episode uint8 frames (T, H, W, C).
        real: likewise.
        masks: per episode the class of every pixel, (T, H, W).
        names: of the classes.

    Returns:
        Name -> PSNR; NaN for a class without pixels.
    """
    errors = {value: 0.0 for value in names}
    counts = {value: 0 for value in names}
    for ours, theirs, mask in zip(predicted, real, masks, strict=True):
        error = squared_error(ours, theirs)
        for value in names:
            chosen = mask == value
            errors[value] += float(error[chosen].sum())
            counts[value] += int(chosen.sum())
    return {name: decibels(errors[v] / counts[v]) if counts[v] else math.nan for v, name in names.items()}


def squared_error(predicted: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Squared error of every pixel, the channels' mean: uint8 (..., H, W, C) -> (..., H, W) float64."""
    return np.square(predicted.astype(np.int32) - real).mean(axis=-1)


def decibels(error: float) -> float:
    """PSNR of a mean squared error of uint8 values; of none at all, 138 dB (`EXACT`)."""
    return 10 * math.log10(255**2 / max(error, 1e-9))


EXACT = decibels(0.0)
