"""Pairs of histories: by the same actions through two worlds that differ in one thing, which was seen long before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lssvwm_rl.data.episode import Episode


@dataclass(frozen=True)
class Pair:
    """Two histories up to a compared frame, their last one, at which reality depends on what was seen long before.

    Actions agree throughout, frames and vectors in the `window` frames before the compared one. There, frames differ
    or, where they do not, the reward or the end that comes with them.

    Attributes:
        first, second: T steps each.
        window: frames just before the compared one that agree, at least.

    Raises:
        ValueError: if one of that is not so.
    """

    first: Episode
    second: Episode
    window: int

    def __post_init__(self) -> None:
        if not np.array_equal(self.first.actions, self.second.actions):
            raise ValueError("The histories of a pair have other actions; play those of one world in the other.")
        if self.window < 1 or self.agreement < self.window:
            raise ValueError(
                f"The histories agree in {self.agreement} frames before the compared one, not in a window of "
                f"{self.window}, which has to be at least 1; compare a later frame, or take a smaller window."
            )
        if self.agreement == len(self.first):
            raise ValueError("The histories of a pair agree from the start, so that there is nothing to remember.")
        if not _vectors_differ(self.first, self.second)[-1] and (self.in_frame or self._outcomes_differ()):
            return
        raise ValueError("At the compared frame vectors differ or nothing does, which memory cannot tell apart.")

    @property
    def agreement(self) -> int:
        """Frames just before the compared one in which both histories agree."""
        return int(_agreements(self.first, self.second)[-1])

    @property
    def in_frame(self) -> bool:
        """Whether the compared frames differ; if not, the reward or the end does."""
        return bool((self.first.frames[-1] != self.second.frames[-1]).any())

    def _outcomes_differ(self) -> bool:
        a, b = self.first, self.second
        return bool(a.rewards[-1] != b.rewards[-1]) or a.terminated != b.terminated


def cut_pairs(first: Episode, second: Episode, window: int) -> list[Pair]:
    """What two episodes by the same actions give: at most one pair that differs in its compared frame (the one with the
    most pixels that differ, the last of such), and one that differs in the reward or the end only (the last).

    Args:
        first: a whole episode.
        second: another one; if one of them ends earlier, the other is taken up to there.
        window: frames just before the compared one that have to agree.
    """
    steps = min(len(first), len(second))
    first, second = first.cut(0, steps + 1), second.cut(0, steps + 1)
    agreements = _agreements(first, second)
    fit = (agreements >= window) & (agreements < np.arange(steps + 1)) & ~_vectors_differ(first, second)
    pixels = (first.frames != second.frames).any(axis=-1).sum(axis=(1, 2))
    outcomes = np.concatenate([[False], first.rewards != second.rewards])
    outcomes[-1] |= first.terminated != second.terminated
    found = []
    if (fit & (pixels > 0)).any():
        most = np.where(fit, pixels, 0)
        found.append(int(np.flatnonzero(most == most.max())[-1]))
    if (fit & (pixels == 0) & outcomes).any():
        found.append(int(np.flatnonzero(fit & (pixels == 0) & outcomes)[-1]))
    return [Pair(first.cut(0, t + 1), second.cut(0, t + 1), window) for t in found]


def _agreements(first: Episode, second: Episode) -> np.ndarray:
    """(T+1,) int64: in how many frames just before each one two episodes of T steps agree, vectors included."""
    differ = (first.frames != second.frames).any(axis=(1, 2, 3)) | _vectors_differ(first, second)
    places = np.arange(len(differ))
    # The last frame that differs, up to each one; -1 before there is any.
    last = np.maximum.accumulate(np.where(differ, places, -1))
    return places - np.concatenate([[-1], last[:-1]]) - 1


def _vectors_differ(first: Episode, second: Episode) -> np.ndarray:
    """(T+1,) bool."""
    if first.vectors is None or second.vectors is None:
        return np.zeros(len(first.frames), bool)
    return (first.vectors != second.vectors).any(axis=1)
