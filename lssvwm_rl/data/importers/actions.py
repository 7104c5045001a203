"""Which space recorded actions are of, where nothing says it."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from lssvwm_rl.spaces import action_layout

MOST_ACTIONS = 65_536  # of a Discrete space that is inferred: every one is a row of a table of the model


def inferred_space(actions: Sequence[np.ndarray], count: int | None = None) -> gym.Space:
    """The smallest space that holds all actions.

    Whole numbers in one column are Discrete, in several MultiDiscrete, each from 0 (or from the least, if that is
    negative) to the largest. Others are a Box from the least to the largest of each column. A column that never changes
    gets a range of 1 about its value, since models divide by ranges.

    Args:
        actions: of each episode, (T, A), whole numbers or not.
        count: of Discrete actions, if the largest does not occur.

    Raises:
        ValueError: if `count` is too small, or the actions are not Discrete, or whole numbers too far apart for it.
    """
    every = np.concatenate(actions)
    finite = np.isfinite(every).all(axis=1)
    # What is not finite is refused with its place once its episode is read.
    every = every[finite] if finite.any() else np.zeros_like(every[:1])
    low, high = every.min(axis=0), every.max(axis=0)
    whole = every.dtype.kind in "iu"
    # As Python's own numbers, which do not overflow.
    ranges = [int(most) - min(0, int(least)) + 1 for least, most in zip(low, high, strict=True)]
    if whole and max(ranges) > MOST_ACTIONS:
        raise ValueError(
            f"Whole numbers of {low.min()} to {high.max()} would be {max(ranges):,} different actions, and models have "
            f"up to {MOST_ACTIONS:,}; number them from 0, or write them with a decimal point if they are quantities."
        )
    if whole and len(low) == 1:
        first, n = min(0, int(low[0])), ranges[0]
        if count is not None and count < n:
            raise ValueError(f"There are actions up to {high[0]}, so --actions must be at least {n}, not {count}.")
        return spaces.Discrete(n if count is None else count, start=first)
    if count is not None:
        raise ValueError("--actions counts Discrete actions, and these are not one whole number each; leave it out.")
    if whole:
        start = np.minimum(low, 0)
        return spaces.MultiDiscrete(high - start + 1, start=start)
    with np.errstate(over="ignore"):  # what becomes infinite is refused with its place, too
        low, high = low.astype(np.float32), high.astype(np.float32)
    still = low == high
    return spaces.Box(np.where(still, low - 0.5, low), np.where(still, high + 0.5, high), dtype=np.float32)


def stored_actions(actions: np.ndarray, space: gym.Space) -> np.ndarray:
    """Actions (T, A) as a store of that space holds them, see `spaces.action_layout`."""
    shape, dtype = action_layout(space)
    with np.errstate(over="ignore"):
        return actions.reshape(len(actions), *shape).astype(dtype)


def space_sentence(space: gym.Space) -> str:
    """A space in a few words: numbers of a wide Box would fill the line."""
    if isinstance(space, spaces.Box) and space.shape[0] > 4:
        return f"Box{space.shape} within [{space.low.min():g}, {space.high.max():g}]"
    if isinstance(space, spaces.Box):
        each = ", ".join(f"{low:g}..{high:g}" for low, high in zip(space.low, space.high, strict=True))
        return f"Box{space.shape} of {each}"
    return str(space)
