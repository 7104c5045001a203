"""Minari data sets that are damaged: one sentence with the episode and what to do, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from gymnasium import spaces

from lssvwm_rl.cli import main
from support.minari_sets import ACTIONS, IMAGES, PARTS, episode, write_dataset


def broken(folder, change) -> Path:
    source = write_dataset(
        folder / "s", IMAGES[0], ACTIONS[0], [episode(IMAGES[0], ACTIONS[0], 3, 1, 0, (True, False))]
    )
    change(source)
    return source


def cut(source):
    path = source / "data/main_data.hdf5"
    path.write_bytes(path.read_bytes()[:900])


def without_spaces(source):
    """Minari would make the environment, and so import what the file names."""
    path = source / "data/metadata.json"
    about = json.loads(path.read_text())
    del about["observation_space"]
    path.write_text(json.dumps(about))


def replaced(name, values):
    def change(source):
        with h5py.File(source / "data/main_data.hdf5", "a") as file:
            del file[f"episode_0/{name}"]
            file[f"episode_0/{name}"] = values

    return change


def without(name):
    def change(source):
        with h5py.File(source / "data/main_data.hdf5", "a") as file:
            del file[f"episode_0/{name}"]

    return change


def seed_of_letters(source):
    with h5py.File(source / "data/main_data.hdf5", "a") as file:
        file["episode_0"].attrs["seed"] = "seven"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cut, "cannot be read"),
        (without_spaces, "does not say its observation_space"),
        (replaced("rewards", np.array([0, np.nan, 0])), "The reward of step 1 of episode 0 of"),
        (replaced("actions", np.array([0, 9, 0])), "The action of step 1 of episode 0 of"),
        (replaced("actions", np.array([0, 1])), "has 4 images uint8, 2 actions, 3 rewards float64"),
        (replaced("rewards", np.array([b"a"] * 3)), "3 actions, 3 rewards |S1, 3 terminations"),
        (replaced("truncations", np.zeros(2, np.bool_)), "3 terminations and 2 truncations, and should have"),
        (without("rewards"), "Episode 0 of {source} cannot be read: KeyError"),
        (seed_of_letters, "Episode 0 of {source} cannot be read: ValueError"),
        (replaced("terminations", np.array([True, False, False])), "ends before its last step"),
    ],
)
def test_broken_data_sets_leave_nothing(change, said, tmp_path, capsys):
    source = broken(tmp_path, change)
    with pytest.raises(SystemExit) as stop:
        main(["data", "import", str(source), "--out", str(tmp_path / "store")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and said.format(source=source) in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), None])
def test_vectors_that_do_not_fit_are_named_with_their_episode(tmp_path, capsys, shape):
    observed = spaces.Dict({"image": IMAGES[0], "vector": PARTS["vector"]})
    buffers = [episode(observed, ACTIONS[0], 3, 1, number, (True, False)) for number in range(2)]
    source = write_dataset(tmp_path / "s", observed, ACTIONS[0], buffers)
    with h5py.File(source / "data/main_data.hdf5", "a") as file:
        del file["episode_1/observations/vector"]
        if shape is not None:
            file["episode_1/observations/vector"] = np.zeros(shape, np.float32)
    with pytest.raises(SystemExit) as stop:
        main(["data", "import", str(source), "--out", str(tmp_path / "store")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and [path.name for path in tmp_path.iterdir()] == ["s"]
    if shape is None:
        assert f"Episode 1 of {source} cannot be read" in error and "has no part 'vector'" in error
    else:
        assert (
            f"episode 1 of {source} has 4 images" in error
            and f"vectors {shape}, 3 actions" in error
            and "and a vector of 3 numbers more" in error
        )
