"""SplitMix64 (Steele et al. 2014): random numbers inside compiled loops, one uint64 of state per environment."""

from __future__ import annotations

import numpy as np

from lssvwm_envs.memory_maze.compiled import compiled

GAMMA, M1, M2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
S30, S27, S31, S32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)


@compiled
def draw(rng: np.ndarray, i: int) -> np.uint64:
    """The next 64 bits of stream i; `rng` (N,) uint64 is advanced."""
    rng[i] += GAMMA
    z = rng[i]
    z = (z ^ (z >> S30)) * M1
    z = (z ^ (z >> S27)) * M2
    return z ^ (z >> S31)


@compiled
def below(rng: np.ndarray, i: int, n: int) -> np.int64:
    """A number in 0..n-1; biased by at most n / 2**32."""
    return np.int64(((draw(rng, i) >> S32) * np.uint64(n)) >> S32)


@compiled
def shuffle(rng: np.ndarray, i: int, items: np.ndarray, count: int) -> None:
    """Put the first `count` rows of `items` in random order."""
    for a in range(count - 1, 0, -1):
        b = below(rng, i, a + 1)
        for c in range(items.shape[1]):
            kept = items[a, c]
            items[a, c] = items[b, c]
            items[b, c] = kept
