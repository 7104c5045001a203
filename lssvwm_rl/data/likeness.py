"""Whether a predicted frame shows what the real one shows."""

from __future__ import annotations

import numpy as np

OFF = 32  # of 255, in any channel: the pixel shows something else


def shares_off(frames: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Shares (N,) float64 of the pixels of N frames (N, H, W, C) uint8 that are off by more than `OFF` somewhere."""
    differences = np.abs(frames.astype(np.int16) - real).max(axis=-1)
    return (differences > OFF).mean(axis=(1, 2))
