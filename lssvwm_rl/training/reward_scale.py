"""The scale of rewards, learnt from the data: how many reward units are one unit of the reward head.

The head's bins are symlog-spaced around zero and reach to +-147 units (Hafner et al. 2023, 2301.04104, of whose bins
these are the inner part): beyond them all rewards are the same, and of rewards far below a unit they tell nothing.
"""

from __future__ import annotations

import math

import numpy as np

from lssvwm_rl.data.store import EpisodeStore

PERCENTILE = 95  # of the sizes of rewards that are not zero: what is called typical
LEAST, MOST = 0.1, 100.0  # units: typical rewards are at least, and all rewards at most, where nothing needs to change


def rewards_of(store: EpisodeStore) -> np.ndarray:
    """All rewards of a store, (steps of all episodes,) float32.

    Raises:
        ValueError: naming the episode and the step of one that is not finite.
    """
    rewards = store.rewards()
    bad = np.flatnonzero(~np.isfinite(rewards))
    if len(bad):
        ends = np.cumsum(store.lengths)
        episode = int(np.searchsorted(ends, bad[0], side="right"))
        step = int(bad[0] - (ends[episode] - store.lengths[episode]))
        raise ValueError(
            f"The reward of step {step} in episode {episode} of {store.path} is {rewards[bad[0]]}; collect the data "
            "again with finite rewards."
        )
    return rewards


def suited_scale(rewards: np.ndarray, scale: float = 1.0) -> float:
    """A scale for rewards of any shape: the given one if it suits them, else a power of two.

    It suits if no reward is above 100 units, and the 95th percentile of their sizes, without zeros, not below 0.1. If
    not, that percentile becomes one unit, or more if the largest reward would still be above 100.
    """
    sizes = np.abs(rewards[rewards != 0]).astype(np.float64)
    if not len(sizes):
        return scale
    typical, largest = float(np.percentile(sizes, PERCENTILE)), float(sizes.max())
    if largest <= MOST * scale and typical >= LEAST * scale:
        return scale
    # With powers of two, to scale and back changes no bits.
    return 2.0 ** math.ceil(math.log2(max(typical, largest / MOST)))
