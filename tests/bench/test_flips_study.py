"""The study of flips on an untrained checkpoint: its table, and what it refuses."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lssvwm_rl.data.episode import Episode
from lssvwm_rl.measures.flips import StillDreams

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "studies" / "flips.py"


@pytest.fixture(scope="module")
def study() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(SCRIPT), run_name="flips"))


def test_a_row_for_every_number_of_passes_and_temperature(study, checkpoint, capsys):
    store = Path(checkpoint) / "contexts"
    sizes = {"moments": 5, "still": 3, "seeds": 2, "denoise_steps": (1, 4), "temperatures": (1.0, 0.0)}
    study.main(study.Args(store, 6, checkpoint, **sizes))
    said, data, heading, _, *rows = capsys.readouterr().out.strip().splitlines()
    assert "5 moments of 4 episodes, led by 1" in said and "action 6 changed the frame 0 of " in data
    assert [[cell.strip() for cell in row.split("|")[1:3]] for row in rows] == [
        ["1", "1"],
        ["1", "0"],
        ["4", "1"],
        ["4", "0"],
    ]
    assert "all (5): flip" in heading and "guessed (" in heading and "known (" in heading


def test_cells_are_shares_of_the_moments_in_a_group(study):
    guessed = np.array([True, False, False, False])
    reference = StillDreams(np.array([2, 0, 0, 1]), np.array([1.0, 0.0, 0.0, 0.0]), guessed, 0.5)
    cold = StillDreams(np.array([0, 0, 0, 0]), np.array([0.0, 0.0, 0.0, 1.0]), guessed, 0.5)
    first, second = study.flips_table([(4, 1.0), (2, 0.0)], [reference, cold]).splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("| ").split("|")] for row in (first, second)]
    assert cells[0] == ["2", "0", "0.0%", "0.00", "25.0%", "0.0%", "0.00", "0.0%", "0.0%", "0.00", "33.3%"]
    assert cells[1] == ["4", "1", "50.0%", "0.75", "25.0%", "100.0%", "2.00", "100.0%", "33.3%", "0.33", "0.0%"]
    empty = study.flips_table([(4, 1.0)], [StillDreams(np.zeros(2), np.zeros(2), np.zeros(2, bool), 0.5)])
    assert "guessed (0): flip" in empty and "| - | - | - |" in empty


def test_real_changes_are_counted(study):
    frames = np.zeros((5, 8, 8, 3), np.uint8)
    frames[2:] = 200
    episode = Episode(frames, np.array([6, 6, 6, 1]), np.zeros(4, np.float32), terminated=True, truncated=False)
    assert study.real_changes([episode, episode], 6, 0.1) == (2, 6)
    assert study.real_changes([episode], 5, 0.1) == (0, 0)


def test_an_action_that_there_is_not_is_refused(study, checkpoint):
    with pytest.raises(ValueError, match="Action 7 is none of .*; name a Discrete one that changes nothing"):
        study.main(study.Args(Path(checkpoint) / "contexts", 7, checkpoint))
