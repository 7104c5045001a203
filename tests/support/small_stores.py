"""Stores of frames of 2 x 2 pixels, and what is in them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import zarr

from lssvwm_rl.data.checksums import FILE
from lssvwm_rl.data.episode import Episode, StoreHeader
from lssvwm_rl.data.store import EpisodeStore

PLAIN = StoreHeader((2, 2, 1), {"type": "Discrete", "n": 3, "start": 0}, {"pose": 2})


def zeros(steps: int, seed: int = 0) -> Episode:
    """An episode in which everything is zero, as what is missing might seem to be."""
    frames, vectors = np.zeros((steps + 1, 2, 2, 1), np.uint8), np.zeros((steps + 1, 2), np.float32)
    return Episode(frames, np.zeros(steps, np.int64), np.zeros(steps, np.float32), False, False, vectors, seed)


def ones(steps: int, seed: int = 0) -> Episode:
    frames, vectors = np.ones((steps + 1, 2, 2, 1), np.uint8), np.ones((steps + 1, 2), np.float32)
    return Episode(frames, np.ones(steps, np.int64), np.ones(steps, np.float32), True, True, vectors, seed)


def contents(folder: Path) -> list[list]:
    return [
        [part.tolist() for part in (e.frames, e.actions, e.rewards, e.vectors)] + [e.terminated, e.truncated, e.seed]
        for e in EpisodeStore(folder)
    ]


def old(folder: Path, target: Path) -> None:
    """A copy of a store as versions wrote it that had no checksums, and left out chunks of zeros."""
    shutil.copytree(folder, target)
    for shard in target.glob("shard-*.zarr"):
        (shard / FILE).unlink()
        group = zarr.open_group(shard, mode="r+", zarr_format=3)
        del group.attrs["checked"]
        for name in group.array_keys():
            if not group[name][:].any():
                shutil.rmtree(shard / name / "c")
