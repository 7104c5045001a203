"""PSNR and SSIM of predicted frames: over all, by what a pixel needs, by time since last sight, by time dreamt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from lssvwm_rl.measures.psnr import decibels, squared_error
from lssvwm_rl.measures.revisit import IGNORED, NAMES, NO_SURFACE, revisit_masks, sight_ages
from lssvwm_rl.measures.trial import Trial

CLASSES = max(*NAMES, IGNORED) + 1


@dataclass(frozen=True)
class Revisits:
    """Of N trials, the F frames after the context.

    Attributes:
        ages: (N, F, H, W) int32, see `revisit.sight_ages`.
        masks: (N, F, H, W) uint8, see `revisit.revisit_masks`.
    """

    ages: np.ndarray
    masks: np.ndarray

    @classmethod
    def of(cls, trials: Sequence[Trial], context: int, reach: int, free_running: bool) -> Revisits | None:
        """Of trials of one length; None where the environment could not tell surfaces.

        Free-running, only the context's frames count as seen.
        """
        until = context if free_running else None
        shown = [trial.surfaces for trial in trials if trial.surfaces is not None]
        if len(shown) < len(trials):
            return None
        return cls(
            np.stack([sight_ages(surfaces, until)[context:] for surfaces in shown]),
            np.stack([revisit_masks(surfaces, reach, until)[context:] for surfaces in shown]),
        )


def score_frames(predicted: np.ndarray, real: np.ndarray, revisits: Revisits | None = None) -> dict[str, Any]:
    """Compare predicted with real frames (N, F, H, W, C) uint8.

    Returns:
        JSON values: "psnr" in dB, pooled over all pixels, and "ssim", its mean; "frames": lists of both over the time
        since the context; with revisits also "classes": name -> {"pixels", "psnr", "ssim"}, and "ages": list of
        {"from", "to", "pixels", "psnr", "ssim"} by time since last sight, both ends included, in bins that double.
        There SSIM is the mean of the SSIM image's pixels, and both are None without pixels; sky and border are in no
        class or bin.
    """
    pixels, bins = predicted.shape[0] * predicted.shape[2] * predicted.shape[3], _AgeBins(revisits)
    over_frames = np.zeros((2, predicted.shape[1]))  # error and SSIM
    over_classes, over_ages = np.zeros((3, CLASSES)), np.zeros((3, bins.count))  # error, SSIM and pixels
    for i, (ours, theirs) in enumerate(zip(predicted, real, strict=True)):
        error, ssim = squared_error(ours, theirs), ssim_images(ours, theirs)
        over_frames += [values.sum(axis=(1, 2), dtype=np.float64) for values in (error, ssim)]
        if revisits is not None:
            over_classes += _sums(revisits.masks[i], CLASSES, error, ssim)
            over_ages += _sums(bins.of(i), bins.count, error, ssim)
    errors, ssims = over_frames / pixels
    scores: dict[str, Any] = {
        "psnr": decibels(float(errors.mean())),
        "ssim": float(ssims.mean()),
        "frames": {"psnr": [decibels(float(e)) for e in errors], "ssim": ssims.tolist()},
    }
    if revisits is None:
        return scores
    classes = {name: _means(*over_classes[:, value]) for value, name in NAMES.items()}
    return {**scores, "classes": classes, "ages": bins.rows(over_ages)}


def ssim_images(predicted: np.ndarray, real: np.ndarray) -> np.ndarray:
    """SSIM of every pixel of frames (F, H, W, C) uint8, the channels' mean: (F, H, W) float32."""
    a, b = (torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).float() for x in (predicted, real))
    result = structural_similarity_index_measure(a, b, data_range=255.0, return_full_image=True)
    return result[1].mean(dim=1).numpy()


class _AgeBins:
    """Ages 1, 2-3, 4-7, ...; the last bin takes what has no age."""

    def __init__(self, revisits: Revisits | None):
        self.ages = revisits.ages if revisits is not None else np.zeros((0,), np.int32)
        oldest = max(0, int(self.ages.max(initial=0)))
        self.count = oldest.bit_length() + 1
        bins = [age.bit_length() - 1 for age in range(1, oldest + 1)]
        # Ages begin at NO_SURFACE; those below 1 are no time.
        self.table = np.array([self.count - 1] * (1 - NO_SURFACE) + bins)

    def of(self, i: int) -> np.ndarray:
        """Bins of trial i's pixels (F, H, W)."""
        return self.table[self.ages[i] - NO_SURFACE]

    def rows(self, sums: np.ndarray) -> list[dict[str, Any]]:
        """What `score_frames` tells of all bins that are a time; `sums` (3, count)."""
        return [{"from": 2**k, "to": 2 ** (k + 1) - 1, **_means(*sums[:, k])} for k in range(self.count - 1)]


def _sums(kinds: np.ndarray, count: int, *values: np.ndarray) -> np.ndarray:
    """Of the pixels of every kind 0..count-1 the sums of all values, and their number: (len(values) + 1, count)."""
    kinds = kinds.ravel()
    sums = [np.bincount(kinds, value.ravel(), minlength=count) for value in values]
    return np.stack([*sums, np.bincount(kinds, minlength=count)])


def _means(error: float, ssim: float, pixels: float) -> dict[str, Any]:
    psnr = decibels(float(error / pixels)) if pixels else None
    return {"pixels": int(pixels), "psnr": psnr, "ssim": float(ssim / pixels) if pixels else None}
