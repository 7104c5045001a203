"""What predicts frames without a model: copying the last real one, and the best that a window could know."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lssvwm_rl.measures.revisit import MEMORY, NEVER
from lssvwm_rl.measures.trial import Trial

COPY, ORACLE = "copy last frame", "window oracle"


def copied_frames(trials: Sequence[Trial], context: int, free_running: bool) -> np.ndarray:
    """The real frame before each, or, free-running, the context's last one: (N, F, H, W, C) uint8."""
    frames = np.stack([trial.episode.frames[context - 1 : -1] for trial in trials])
    return np.broadcast_to(frames[:, :1], frames.shape) if free_running else frames


def oracle_frames(trials: Sequence[Trial], masks: np.ndarray, context: int) -> np.ndarray:
    """The best that can be known of the window's frames alone, idealised in favour of who knows no more.

    Pixels of class WINDOW are perfect, and so are sky and border. All others have the mean colour that this place of
    the image has over those predicted frames of all trials in which it is of the same class: nothing that is constant
    has a smaller squared error. Where few trials leave a place only a few such pixels, their mean is close to each of
    them, which is in its favour, too.

    Args:
        trials: N.
        masks: (N, F, H, W), classes of the pixels after the context.
        context: real frames before.

    Returns:
        (N, F, H, W, C) uint8.
    """
    frames = np.stack([trial.episode.frames[context:] for trial in trials])
    for value in (NEVER, MEMORY):
        unknown = masks == value
        count = np.maximum(1, unknown.sum(axis=(0, 1)))[..., None]
        mean = (frames * unknown[..., None]).sum(axis=(0, 1), dtype=np.int64) / count
        np.copyto(frames, np.rint(mean).astype(np.uint8), where=unknown[..., None])
    return frames
