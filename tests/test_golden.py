"""A change of form changes no numbers: those in `golden/` were made before it, files of that time are still read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from support import golden

FOLDER = Path(__file__).parent / "golden"
NUMBERS = json.loads((FOLDER / golden.NUMBERS).read_text())
# Sums have another order on other machines. A frame is rounded to whole levels, from which the next one follows.
FRAMES_WITHIN, SHARE, RELATIVE = 1, 0.999, 1e-4


def frames() -> np.ndarray:
    strip = iio.imread(FOLDER / golden.FRAMES)
    return np.stack(np.split(strip, golden.STEPS, axis=1))


def assert_frames_close(ours: np.ndarray, theirs: np.ndarray):
    assert ours.shape == theirs.shape
    assert np.mean(np.abs(ours.astype(int) - theirs) <= FRAMES_WITHIN) >= SHARE


def test_a_dream_has_the_frames_and_rewards_it_had():
    with golden.one_thread():
        dreamt, numbers = golden.dream()
    assert_frames_close(dreamt, frames())
    np.testing.assert_allclose(numbers, NUMBERS["dream"], atol=1e-4)
    assert NUMBERS["dream"][-1][0] > 0.5, "the dream ends with a reward"


def test_a_state_of_before_goes_on_as_it_did(tmp_path):
    shutil.copyfile(FOLDER / golden.STATE, tmp_path / golden.STATE)
    with golden.one_thread():
        assert_frames_close(golden.go_on(tmp_path / golden.STATE), frames()[golden.KEPT :])


def test_the_planner_decides_as_it_did():
    with golden.one_thread():
        found = golden.decision()
    expected = NUMBERS["decision"]
    assert (found["action"], found["best"]) == (expected["action"], expected["best"])
    np.testing.assert_allclose(found["return"], expected["return"], atol=1e-4)
    np.testing.assert_allclose(found["parameters"], expected["parameters"], atol=1e-3)


@pytest.mark.parametrize("name", golden.TRAININGS)
def test_updates_have_the_losses_they_had(name):
    with golden.one_thread():
        np.testing.assert_allclose(golden.losses(name), NUMBERS["losses"][name], rtol=RELATIVE)
