"""Retrieval: frames predicted from a memory of all real frames before, judged where only memory can help."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.store import Episode
from lssvwm_rl.world_model import WorldModel


@torch.no_grad()
def predict_every_frame(model: WorldModel, episodes: Sequence[Episode], denoise_steps: int = 4) -> list[np.ndarray]:
    """Every frame but the first, dreamt from the real frames before it (teacher-forced).

    The vector of the predicted frame, if the model has vectors, is given as it was: pose-conditioned prediction.

    Returns:
        Per episode (T, H, W, C) uint8, the predictions of frames 1..T.
    """
    batch = clip_batch(episodes, max(len(e.frames) for e in episodes)).to(model.device)
    conditioned = bool(model.config.vector_size)
    memory, frames = model.initial_memory(len(episodes)), []
    generators = [torch.Generator(model.device).manual_seed(i) for i in range(len(episodes))]
    for t in range(batch.frames.shape[1]):
        one = slice(t, t + 1)
        vectors = batch.vectors[:, one] if conditioned and batch.vectors is not None else None
        if t:
            frames.append(model.dream_frame(memory, batch.actions[:, t], vectors, generators, denoise_steps).cpu())
        memory, _ = model.observe(memory, batch.frames[:, one], batch.actions[:, one], vectors)
    stacked = torch.stack(frames, dim=1).numpy()
    return [stacked[i, : len(e)] for i, e in enumerate(episodes)]


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
    return {
        name: 10 * math.log10(255**2 / max(errors[value] / counts[value], 1e-9)) if counts[value] else math.nan
        for value, name in names.items()
    }
