"""How often the data went where: counts of (view, action) by hashes of frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from lssvwm_rl.data.episode import Episode

BITS = 32  # of a hash: views that differ in one tile of 49 mostly have others
CELLS = 8  # of a view, in height and in width, at most


class Visits:
    """Counts of pairs (view, action), for explorers and for what a model can be expected to know.

    A view is a frame's SimHash (Charikar 2002; counts of them: Tang et al. 2017, arXiv 1611.04717, section 2.2): the
    signs of `BITS` random projections of the frame, averaged over at most 8 x 8 cells. Frames that look alike therefore
    share a view. A Box action counts by the third of its range that each of its numbers lies in.

    Args:
        low, high: bounds of Box actions, as wide as an action; None for discrete ones.
    """

    def __init__(self, low: np.ndarray | None = None, high: np.ndarray | None = None) -> None:
        self._counts: Counter[tuple[int, ...]] = Counter()
        self._low, self._high = low, high
        self._planes: np.ndarray | None = None

    def views(self, frames: np.ndarray) -> np.ndarray:
        """Hashes (N,) int64 of frames (N, H, W, C) uint8."""
        cells = _cells(frames)
        if self._planes is None:
            self._planes = np.random.default_rng(0).standard_normal((cells.shape[1], BITS))
        return ((cells @ self._planes) > 0) @ (1 << np.arange(BITS, dtype=np.int64))

    def add(self, frames: np.ndarray, actions: np.ndarray) -> None:
        """Count N pairs of a frame (N, H, W, C) and the action (N[, A]) that was taken there."""
        self._counts.update(self._keys(self.views(frames), actions))

    def add_episodes(self, episodes: Iterable[Episode]) -> None:
        """Count all steps of episodes."""
        for episode in episodes:
            self.add(episode.frames[:-1], episode.actions)

    def of(self, frames: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """How often each of N pairs was counted, (N,) int64."""
        return self.count(self.views(frames), actions)

    def count(self, views: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """As `of`, of hashes (N,) that `views` gave."""
        return np.array([self._counts[key] for key in self._keys(views, actions)], np.int64)

    def _keys(self, views: np.ndarray, actions: np.ndarray) -> list[tuple[int, ...]]:
        actions = np.asarray(actions).reshape(len(views), -1)
        if self._low is not None and self._high is not None:
            actions = np.clip((actions - self._low) / (self._high - self._low) * 3, 0, 2)
        return [(view, *action) for view, action in zip(views.tolist(), actions.astype(int).tolist(), strict=True)]


def _cells(frames: np.ndarray) -> np.ndarray:
    """Means (N, cells) of the cells of frames, about the middle of the range."""
    n, height, width, channels = frames.shape
    edges = [np.arange(min(size, CELLS) + 1) * size // min(size, CELLS) for size in (height, width)]
    summed = np.add.reduceat(np.add.reduceat(frames.astype(np.float64), edges[0][:-1], 1), edges[1][:-1], 2)
    areas = np.diff(edges[0])[:, None] * np.diff(edges[1])
    return (summed / areas[..., None] - 127.5).reshape(n, -1)
