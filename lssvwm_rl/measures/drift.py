"""Drift of long dreams: whether frames dreamt a thousand steps on still have the colours and edges of real ones."""

from __future__ import annotations

import numpy as np

CHUNK = 50  # frames whose histograms are taken together
COLOR_BINS = 16
# Most of an image has no edges, so bins are narrow there.
GRADIENT_EDGES = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512])


def chunk_distances(a: np.ndarray, b: np.ndarray) -> dict[str, list[float]]:
    """Distances of the histograms of frames (N, F, H, W, C) and (M, F, H, W, C) uint8, chunk after chunk of `CHUNK`
    frames: "color", of 16 bins per channel, and "gradient", of the magnitude of brightness steps."""
    chunks = [slice(start, start + CHUNK) for start in range(0, a.shape[1], CHUNK)]
    histograms = {"color": color_histogram, "gradient": gradient_histogram}
    return {
        name: [total_variation(histogram(a[:, chunk]), histogram(b[:, chunk])) for chunk in chunks]
        for name, histogram in histograms.items()
    }


def color_histogram(frames: np.ndarray) -> np.ndarray:
    """Share of every channel's pixels in `COLOR_BINS` equal bins: frames (..., C) uint8 -> (C, bins)."""
    C = frames.shape[-1]
    bins = (frames.reshape(-1, C) // (256 // COLOR_BINS)).astype(np.int64)
    counts = np.bincount((bins + COLOR_BINS * np.arange(C)).ravel(), minlength=C * COLOR_BINS)
    return counts.reshape(C, COLOR_BINS) / len(bins)


def gradient_histogram(frames: np.ndarray) -> np.ndarray:
    """Share of pixels by how much brightness changes to the next, right and down: (..., H, W, C) uint8 -> (1, bins)."""
    counts = np.zeros(len(GRADIENT_EDGES) - 1)
    for part in frames.reshape(-1, *frames.shape[-4:]):  # of so many float images a part at a time
        grey = part.mean(axis=-1, dtype=np.float32)
        across = np.diff(grey, axis=-1)[..., :-1, :]
        down = np.diff(grey, axis=-2)[..., :-1]
        counts += np.histogram(np.hypot(across, down), GRADIENT_EDGES)[0]
    return (counts / counts.sum())[None]


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Half the sum of differences between distributions (C, bins), the mean over C: 0 the same, 1 disjoint."""
    return float(np.abs(p - q).sum(axis=-1).mean() / 2)
