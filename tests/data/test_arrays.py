"""Rows of arrays as Zarr itself reads them, whatever compressed them, and what is kept of them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import zarr
from zarr.codecs import ZstdCodec

from lssvwm_rl.data import arrays, shards
from lssvwm_rl.data.arrays import QUICK, QUICK_UP_TO, SMALL, ArrayFile, write_array
from lssvwm_rl.data.recent import OVERHEAD, Recent
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter
from support.small_stores import PLAIN, ones


def frames(count: int, kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "noise":
        return rng.integers(0, 256, (count, 6, 5, 3), np.uint8)
    return np.repeat(rng.integers(0, 9, (count // 7 + 1, 6, 5, 3), np.uint8), 7, 0)[:count]


@pytest.mark.parametrize("codecs", [SMALL, QUICK, (ZstdCodec(level=3, checksum=False),)])
@pytest.mark.parametrize("kind", ["noise", "calm"])
def test_any_rows_are_those_that_zarr_reads(tmp_path, monkeypatch, codecs, kind):
    monkeypatch.setattr(arrays, "_codecs", lambda data, rows: codecs)
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 8 * 90)  # 8 frames, the last chunk is not full
    data = frames(45, kind)
    group = zarr.open_group(tmp_path, mode="w", zarr_format=3)
    write_array(group, "frames", data)
    read, reference = ArrayFile.open(tmp_path / "frames"), zarr.open_array(tmp_path / "frames", mode="r")
    assert read.rows == 8 and reference.shards == (48, 6, 5, 3)
    for start in range(45):
        for stop in (start, start + 1, start + 7, start + 8, start + 20, 45):
            np.testing.assert_array_equal(read[start:stop], reference[start:stop])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(read))[3:40], data[3:40])


@pytest.mark.parametrize("dtype", ["int64", "float32", "bool"])
@pytest.mark.parametrize("shape", [(1,), (300,), (70, 3)])
def test_arrays_of_all_dtypes_are_read(tmp_path, dtype, shape):
    data = np.random.default_rng(1).integers(0, 2, shape).astype(dtype)
    write_array(zarr.open_group(tmp_path, mode="w", zarr_format=3), "x", data)
    read = ArrayFile.open(tmp_path / "x")
    assert read[0 : len(data)].dtype == dtype
    np.testing.assert_array_equal(read[0 : len(data)], data)


def test_what_is_quick_compresses_unless_it_takes_more_bytes(tmp_path):
    group = zarr.open_group(tmp_path, mode="w", zarr_format=3)
    rng = np.random.default_rng(0)
    shape, sizes = (60, 64, 64, 3), {}
    # Nothing makes the first smaller, matches of LZ4 the second, and entropy coding, which LZ4 has not, the third.
    of_kinds = {"noise": rng.integers(0, 256, shape, np.uint8), "still": np.full(shape, 7, np.uint8)}
    of_kinds["few bits"] = rng.integers(0, 16, shape, np.uint8)
    for kind, data in of_kinds.items():
        for name, codecs in ((f"{kind} LZ4", QUICK), (f"{kind} Zstandard", SMALL)):
            array = group.create_array(name, shape=shape, dtype="uint8", chunks=(21, *shape[1:]), compressors=codecs)
            array[:] = data
            sizes[name] = array.nbytes_stored()
        write_array(group, kind, data)
        quick = sizes[f"{kind} LZ4"] <= QUICK_UP_TO * sizes[f"{kind} Zstandard"]
        assert ArrayFile.open(tmp_path / kind).codecs[1] == ("blosc" if quick else "zstd")
    assert sizes["noise LZ4"] < 1.01 * sizes["noise Zstandard"]
    assert sizes["few bits LZ4"] > 1.2 * sizes["few bits Zstandard"]


def test_recent_keeps_what_was_asked_for_last_up_to_its_bytes():
    made: list[int] = []

    def get(key: int, size: int = 1000) -> None:
        recent.get(key, lambda: made.append(key) or np.zeros(size, np.uint8))

    recent = Recent(3 * (1000 + OVERHEAD))
    for key in (1, 2, 3, 1, 4):  # 4 displaces 2
        get(key)
    assert made == [1, 2, 3, 4] and len(recent) == 3
    for key in (1, 3, 4, 2):
        get(key)
    assert made == [1, 2, 3, 4, 2] and recent.bytes == recent.max_bytes
    get(9, 10**6)  # what does not fit is kept alone
    assert len(recent) == 1 and recent.bytes == 10**6 + OVERHEAD
    assert len(pickle.loads(pickle.dumps(recent))) == 0


def test_shards_of_a_store_keep_no_more_than_their_bytes_together(tmp_path, monkeypatch):
    with EpisodeWriter(tmp_path, PLAIN, shard_episodes=1) as writer:
        for seed in range(6):
            writer.add(ones(50, seed))
    expected = [episode.actions.tolist() for episode in EpisodeStore(tmp_path)]
    of_a_shard = EpisodeStore(tmp_path)
    of_a_shard.read(0, 0, 9)
    held = of_a_shard._shards[0].recent.bytes
    assert held > 50 * (8 + 4) + 51 * 8
    monkeypatch.setattr(shards, "RECENT_BYTES", 2 * held)
    monkeypatch.setattr("lssvwm_rl.data.store.RECENT_BYTES", 2 * held)
    store = EpisodeStore(tmp_path)
    for i in (0, 5, 3, 3, 1, 2, 4, 0):
        assert store.read(i, 0, 51).actions.tolist() == expected[i]
        assert store._shards[0].recent is store._shards[i].recent and store._shards[i].recent.bytes <= 2 * held
