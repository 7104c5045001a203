"""GivenSeeds: environments whose seeds number their levels are reset with these, whatever seeds splits have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from lssvwm_rl.data.splits import SPLITS

MOST = 10_000_000  # levels that are listed


def read_seeds(texts: Sequence[str]) -> list[int]:
    """The seeds that "0:100" (0 to 99), "7" or several of them name, in order.

    Raises:
        ValueError: if one is neither a number from 0 on nor a range, or there are too many.
    """
    found: list[int] = []
    for text in texts:
        first, colon, last = str(text).partition(":")
        if not (first.isdecimal() and (last.isdecimal() if colon else True)):
            raise ValueError(f"{text!r} names no seeds; write a range such as 0:100, or numbers from 0 on.")
        seeds = range(int(first), int(last) if colon else int(first) + 1)
        if not seeds or len(found) + len(seeds) > MOST:
            raise ValueError(f"{text!r} names {len(seeds):,} seeds; name at least one and at most {MOST:,}.")
        found += seeds
    return found


class GivenSeeds(gym.Wrapper, RecordConstructorArgs):
    """Resets with given seeds: world k of any split is seed k of the list, which begins again after its last one.

    A reset without a seed takes one of them by chance, decided by the last seed that was given.

    Args:
        env: any.
        seeds: as `read_seeds` reads them.

    Raises:
        ValueError: as `read_seeds`, or if there are none.
    """

    def __init__(self, env: gym.Env, seeds: Sequence[str]):
        RecordConstructorArgs.__init__(self, seeds=[str(text) for text in seeds])
        gym.Wrapper.__init__(self, env)
        self._seeds = read_seeds(seeds)
        if not self._seeds:
            raise ValueError("There are no seeds to reset with; name at least one.")
        self._rng = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset with one of the seeds."""
        if seed is None:
            place = int(self._rng.integers(len(self._seeds)))
        else:
            self._rng = np.random.default_rng(seed)
            place = next((seed - split.start for split in SPLITS.values() if seed in split), seed)
        return self.env.reset(seed=self._seeds[place % len(self._seeds)], options=options)
