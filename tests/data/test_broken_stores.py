"""Whatever file of a store is missing, cut or changed: an error that names it, and never other numbers."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import zarr

from lssvwm_rl.data.arrays import write_array
from lssvwm_rl.data.checksums import FILE
from lssvwm_rl.data.episode import HEADER, StoreHeader
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter
from lssvwm_rl.model.checkpoint_files import ASSETS, CONTEXTS
from support.small_stores import PLAIN, contents, old, ones, zeros

FILES = [
    *(f"{name}/{part}" for name in ("terminated", "truncated", "seeds", "lengths", "actions", "rewards")
      for part in ("c/0", "zarr.json")),
    "vectors/c/0/0", "vectors/zarr.json", "frames/c/0/0/0/0", "frames/zarr.json", "zarr.json", FILE,
]  # fmt: skip


@pytest.fixture(params=[zeros, ones])
def made(request, tmp_path):
    with EpisodeWriter(tmp_path / "s", PLAIN) as writer:
        for steps in (3, 1):
            writer.add(request.param(steps))
    return tmp_path / "s", [request.param(3), request.param(1)]


def test_the_files_are_those(made):
    shard = made[0] / "shard-00000.zarr"
    assert sorted(p.relative_to(shard).as_posix() for p in shard.rglob("*") if p.is_file()) == sorted(FILES)
    for read, written in zip(EpisodeStore(made[0]), made[1], strict=True):
        for name in ("frames", "actions", "rewards", "vectors"):
            np.testing.assert_array_equal(getattr(read, name), getattr(written, name))


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_or_cut_is_named(made, name):
    path = made[0] / "shard-00000.zarr" / name
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(ValueError, match=r"shard-00000\.zarr is broken \(.*; remove that folder"):
        EpisodeStore(made[0])
    for cut in (0, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"shard-00000\.zarr is broken"):
            EpisodeStore(made[0])
    path.write_bytes(whole)
    if name not in ("zarr.json", FILE):
        path.unlink()
        with pytest.raises(ValueError, match=f"{name} is missing"):
            EpisodeStore(made[0])


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_an_error_or_changes_nothing(made, name):
    path = made[0] / "shard-00000.zarr" / name
    whole, before = path.read_bytes(), contents(made[0])
    rng, metadata = np.random.default_rng(0), name.endswith("json")
    places = rng.choice(len(whole), min(len(whole), 20), replace=False)
    refused = 0
    for at in places.tolist():
        changed = bytearray(whole)
        changed[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            assert contents(made[0]) == before, at
        except ValueError as error:
            assert "shard-00000.zarr" in str(error) and "is broken" in str(error)
            refused += 1
    assert refused == len(places) if metadata else refused > 0


def test_a_header_that_does_not_fit_the_shards_is_noticed(made):
    header = StoreHeader((2, 2, 3), PLAIN.action_space, PLAIN.vector_keys)
    (made[0] / HEADER).write_text(header.to_json())
    with pytest.raises(ValueError, match=r"frames is \(6, 2, 2, 1\) uint8, not \(6, 2, 2, 3\) uint8"):
        EpisodeStore(made[0])
    header = StoreHeader((2, 2, 1), {"type": "MultiDiscrete", "nvec": [3], "start": [0]}, PLAIN.vector_keys)
    (made[0] / HEADER).write_text(header.to_json())
    with pytest.raises(ValueError, match=r"actions is \(4,\) int64, not \(4, 1\) int64"):
        EpisodeStore(made[0])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("lengths", np.array([3, 2]), "terminated|frames is"),
        ("lengths", np.array([4, 0]), "lengths are"),
        ("lengths", np.array([[3], [1]]), "lengths is"),
        ("seeds", np.array([1, 2, 3]), "seeds is"),
        ("rewards", np.zeros(4, np.float64), "rewards is"),
        ("frames", np.ones((6, 2, 2, 1), np.int16), "frames is"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_noticed_where_there_are_no_checksums(made, name, value, said):
    shard = made[0] / "shard-00000.zarr"
    (shard / FILE).unlink()
    group = zarr.open_group(shard, mode="r+", zarr_format=3)
    del group.attrs["checked"]
    assert len(EpisodeStore(made[0])) == 2
    shutil.rmtree(shard / name)
    write_array(group, name, value)
    with pytest.raises(ValueError, match=said):
        EpisodeStore(made[0])


def test_stores_of_before_are_read_but_for_missing_frames(tmp_path):
    source = ASSETS / "minigrid-memory" / CONTEXTS
    shutil.copytree(source, tmp_path / "s")
    shard = tmp_path / "s" / "shard-00000.zarr"
    assert not (shard / FILE).exists() and "checked" not in json.loads((shard / "zarr.json").read_text())["attributes"]
    group = zarr.open_group(source / "shard-00000.zarr", mode="r")  # Zarr itself is the reference
    for name in ("frames", "actions", "rewards"):
        read = np.concatenate([getattr(episode, name) for episode in EpisodeStore(tmp_path / "s")])
        np.testing.assert_array_equal(read, group[name][:])
    # Files, and their folders, of everything that cannot be zeros: all of its episodes terminated, by its own file.
    for name in ("frames", "actions", "lengths", "seeds", "terminated"):
        for gone in (next(p for p in (shard / name).rglob("c/**/0") if p.is_file()), shard / name / "c"):
            shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
            with pytest.raises(ValueError, match=rf"{name}.* is missing|lengths are \[0|lengths is"):
                EpisodeStore(tmp_path / "s")
        shutil.copytree(source / "shard-00000.zarr" / name / "c", shard / name / "c")
    (shard / "rewards" / "c" / "0").unlink()
    with pytest.raises(ValueError, match="rewards/c/0 is missing"):
        EpisodeStore(tmp_path / "s")
    (shard / "rewards" / "c").rmdir()
    with pytest.warns(RuntimeWarning, match="no file of rewards"):
        assert not any(episode.rewards.any() for episode in EpisodeStore(tmp_path / "s"))


def test_arrays_of_zeros_that_were_left_out_are_read(tmp_path):
    with EpisodeWriter(tmp_path / "s", PLAIN) as writer:
        writer.add(dataclasses.replace(ones(3), terminated=False, rewards=np.zeros(3, np.float32)))
    old(tmp_path / "s", tmp_path / "old")
    shard = tmp_path / "old" / "shard-00000.zarr"
    for name in ("terminated", "seeds", "rewards"):
        assert not (shard / name / "c").exists()
    with pytest.warns(RuntimeWarning, match="no file of rewards"):
        assert contents(tmp_path / "old") == contents(tmp_path / "s")
