"""What a pixel needs: what it shows was never seen before, or is still in the window, or only memory can tell."""

from __future__ import annotations

import numpy as np

NEVER, MEMORY, WINDOW, IGNORED = range(4)
NAMES = {NEVER: "never seen", MEMORY: "memory", WINDOW: "window"}
UNSEEN, NO_SURFACE = -1, -2  # ages


def sight_ages(surfaces: np.ndarray, until: int | None = None) -> np.ndarray:
    """How many frames ago what a pixel shows was last in view.

    Args:
        surfaces: (T, H, W) int, what every pixel of an episode's frames shows: a number per thing that looks the same
            whenever it is seen, -1 for what needs no memory (sky, decoration).
        until: only these first frames count as seen, for example a context before a dream; all if None.

    Returns:
        (T, H, W) int32 ages of at least 1; UNSEEN where it was not seen before, NO_SURFACE where there is none.
    """
    ages = np.full(surfaces.shape, NO_SURFACE, np.int32)
    last = np.full(int(surfaces.max(initial=-1)) + 1, -1, np.int64)
    for t, shown in enumerate(surfaces):
        real = shown >= 0
        seen = last[shown[real]]
        ages[t][real] = np.where(seen < 0, UNSEEN, t - seen)
        if until is None or t < until:
            last[shown[real]] = t
    return ages


def revisit_masks(surfaces: np.ndarray, reach: int, until: int | None = None) -> np.ndarray:
    """Classes (T, H, W) uint8 of pixels: NEVER, MEMORY, WINDOW, IGNORED.

    Args:
        surfaces: as in `sight_ages`.
        until: as in `sight_ages`. Of a dream, WINDOW is what was seen in the last reach - 1 real frames.
        reach: frames that a model's attention reaches, the own one included: what is older is MEMORY. Through L layers
            with a window of k frames these are (k - 1) * L + 1.
    """
    ages = sight_ages(surfaces, until)
    steps = np.zeros(len(ages), int) if until is None else np.maximum(0, np.arange(len(ages)) - until)
    masks = np.where(ages - steps[:, None, None] >= reach, MEMORY, WINDOW)
    masks[ages == UNSEEN] = NEVER
    masks[ages == NO_SURFACE] = IGNORED
    return masks.astype(np.uint8)
