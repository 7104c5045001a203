"""What returns is found as a loop over pixels finds it."""

from __future__ import annotations

import numpy as np
import pytest

from lssvwm_rl.measures.returning import looks, returning_ages
from lssvwm_rl.measures.revisit import UNSEEN


@pytest.mark.parametrize("window", [2, 4])
def test_ages_are_those_of_a_loop_over_pixels(window):
    rng = np.random.default_rng(0)
    scenes = rng.integers(0, 2, (4, 6, 5, 3), dtype=np.uint8)
    frames = scenes[rng.integers(0, 4, 14)]
    frames[5:, 1, 1] = rng.integers(0, 2, (9, 3))  # something of its own
    padded = np.pad(frames, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")

    def look(t, y, x):
        return padded[t, y : y + 3, x : x + 3].tobytes()

    everywhere = [{look(t, y, x) for y, x in np.ndindex(6, 5)} for t in range(14)]
    ages = returning_ages(frames, window)
    for t, y, x in np.ndindex(ages.shape):
        seen = [s for s in range(t) if look(t, y, x) in everywhere[s]]
        there = any(look(s, y, x) == look(t, y, x) for s in range(t))
        age = t - seen[-1] if seen else UNSEEN
        assert ages[t, y, x] == (UNSEEN if age >= window and not there else age)
    assert (ages >= window).any() and (ages == UNSEEN).any() and ((ages > 0) & (ages < window)).any()


def test_looks_are_equal_only_where_the_squares_of_pixels_are():
    frames = np.zeros((1, 9, 9, 3), np.uint8)
    frames[0, 2, 3], frames[0, 6, 2] = (1, 0, 0), (0, 1, 0)  # other channels
    numbers = looks(frames)[0]
    assert numbers[4, 7] == numbers[0, 0] and numbers[2, 3] != numbers[6, 2]
    assert len(np.unique(numbers[1:4, 2:5])) == 9, "nine places of the pixel in its square"
    assert (looks(np.zeros((1, 9, 9, 1), np.uint8)) == looks(np.zeros((1, 9, 9, 1), np.uint8))[0, 0, 0]).all()


def test_what_returns_to_another_place_is_not_returning():
    frames = np.zeros((8, 8, 8, 3), np.uint8)
    frames[0, 2, 2] = frames[6, 5, 5] = 200
    assert not (returning_ages(frames, 3) >= 3).any()
    frames[7, 2, 2] = 200
    assert (returning_ages(frames, 8) >= 8).sum() == 0
    frames[6] = 0
    ages = returning_ages(frames, 3)
    assert set(np.unique(ages[7])) == {1, 7} and (ages[7] == 7).sum() == 9
