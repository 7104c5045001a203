"""What comes into view again, told from frames alone: no environment has to say what a pixel shows."""

from __future__ import annotations

import numpy as np

from lssvwm_rl.measures.revisit import UNSEEN, sight_ages

NEIGHBOURS = 16  # a look is a sixteenth of the frame's longer side to all sides of a pixel


def returning_ages(frames: np.ndarray, window: int) -> np.ndarray:
    """How many frames ago each pixel's look was last in view, anywhere in the frame.

    The look of a pixel is the square of pixels around it, equal to the last bit. What left the window counts as
    returning only where it has been before: the same look at another place may be another thing, and nobody who
    remembers could tell that it would appear there.

    Args:
        frames: (T, H, W, C) uint8 of one episode.
        window: frames that need no memory, the own one included.

    Returns:
        (T, H, W) int32: 1 to window - 1 for what the window shows, at least `window` for what returns, UNSEEN else.
    """
    _, numbers = np.unique(looks(frames), return_inverse=True)
    numbers = numbers.reshape(frames.shape[:3])
    ages = sight_ages(numbers)
    ages[(ages >= window) & ~_been_there(numbers)] = UNSEEN
    return ages


def looks(frames: np.ndarray) -> np.ndarray:
    """A number (T, H, W) uint64 for what is around each pixel of frames (T, H, W, C) uint8; beyond its borders a frame
    goes on with its outermost pixels. Equal looks have equal numbers, and others differ but for a chance of 2^-64."""
    radius = max(1, max(frames.shape[1:3]) // NEIGHBOURS)
    side = 2 * radius + 1
    weights = np.random.default_rng(0).integers(0, 2**63, (2, side), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    padded = np.pad(_colours(frames), ((0, 0), (radius, radius), (radius, radius)), mode="edge")
    H, W = frames.shape[1:3]
    rows = sum(padded[:, dy : dy + H] * weights[0, dy] for dy in range(side))
    # Mixed in between: a sum of products alone would let rows and columns be exchanged.
    rows = _mixed(rows)
    return sum(rows[:, :, dx : dx + W] * weights[1, dx] for dx in range(side))


def _colours(frames: np.ndarray) -> np.ndarray:
    """A random-looking uint64 for every colour."""
    number = np.zeros(frames.shape[:3], np.uint64)
    for channel in range(frames.shape[3]):
        number = number * np.uint64(256) + frames[..., channel]
    return _mixed(number + np.uint64(1))


def _mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele et al. 2014), a bijection of uint64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _been_there(numbers: np.ndarray) -> np.ndarray:
    """(T, H, W) bool: whether the place showed the same number at an earlier frame."""
    order = numbers.argsort(axis=0, kind="stable")
    ranked = np.take_along_axis(numbers, order, axis=0)
    again = np.zeros(numbers.shape, np.bool_)
    again[1:] = ranked[1:] == ranked[:-1]
    been = np.empty_like(again)
    np.put_along_axis(been, order, again, axis=0)
    return been
