"""The last observations of every row side by side, for policies that have no memory of their own."""

from __future__ import annotations

from typing import Any

import numpy as np


def stacked(observation: Any, last: Any, episode_start: np.ndarray | None, count: int) -> Any:
    """The last `count` observations, the newest one last, zeros before an episode's first.

    The same as Stable-Baselines3's `VecFrameStack` with channels last gives, without an environment around which it
    could be put.

    Args:
        observation: (n, ..., C), or a dict of such arrays.
        last: what this function gave for the previous step (n, ..., count * C); None at the beginning.
        episode_start: (n,) bool, rows of which nothing is remembered; None if there are none.
        count: 1 or more.

    Returns:
        New arrays (n, ..., count * C).
    """
    if isinstance(observation, dict):
        parts = {} if last is None else last
        return {key: stacked(part, parts.get(key), episode_start, count) for key, part in observation.items()}
    channels = observation.shape[-1]
    if last is None:
        last = np.zeros((*observation.shape[:-1], count * channels), observation.dtype)
    elif episode_start is not None:
        last = np.where(episode_start.reshape(-1, *[1] * (last.ndim - 1)), np.zeros_like(last), last)
    return np.concatenate([last[..., channels:], observation], axis=-1)
