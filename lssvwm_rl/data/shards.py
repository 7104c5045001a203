"""A shard: episodes laid end to end along time, as the arrays of one Zarr group.

Frames and vectors have T+1 rows per episode, actions and rewards T. Each array is one file of small chunks, so reading
a clip touches few bytes. Every chunk has a checksum of its own (that of Zstandard frames, and the CRC32C of the index
that the sharding codec keeps), `checksums.json` the rest.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from lssvwm_rl.data.checksums import FILE as CHECKSUMS
from lssvwm_rl.data.checksums import METADATA, check_checksums, write_checksums
from lssvwm_rl.data.episode import Episode, StoreHeader
from lssvwm_rl.files import written_whole
from lssvwm_rl.spaces import action_layout, space_from_json

CHUNK_BYTES = 256 * 1024  # before compression
NO_SEED = -1
CHECKED = "checked"  # attribute of the group: there are checksums, which earlier versions did not write
PER_EPISODE = {"lengths": "int64", "terminated": "bool", "truncated": "bool", "seeds": "int64"}  # and their dtypes


def shard_path(store: Path, number: int) -> Path:
    """Where a store's shard of that number is."""
    return store / f"shard-{number:05d}.zarr"


def shard_numbers(store: Path) -> list[int]:
    """The numbers of a store's shards, in order."""
    return sorted(int(path.stem.split("-")[1]) for path in store.glob("shard-*.zarr"))


def write_shard(path: Path, episodes: Sequence[Episode]) -> None:
    """Write episodes of one kind, at least one; the shard appears whole or not at all.

    Raises:
        OSError: if there is such a shard already, which another writer made.
    """
    with written_whole(path) as temporary:
        group = zarr.open_group(temporary, mode="w", zarr_format=3, attributes={CHECKED: True})
        for name in ("frames", "actions", "rewards") + (() if episodes[0].vectors is None else ("vectors",)):
            _write_array(group, name, np.concatenate([getattr(e, name) for e in episodes]))
        _write_array(group, "lengths", np.array([len(e) for e in episodes], np.int64))
        _write_array(group, "terminated", np.array([e.terminated for e in episodes], np.bool_))
        _write_array(group, "truncated", np.array([e.truncated for e in episodes], np.bool_))
        seeds = [NO_SEED if e.seed is None else e.seed for e in episodes]
        _write_array(group, "seeds", np.array(seeds, np.int64))
        write_checksums(temporary)


@dataclass(frozen=True)
class Shard:
    """An open shard.

    Attributes:
        path: its folder.
        group: its arrays.
        has_vectors: whether frames have vectors.
        lengths: (N,) int64, steps of each episode.
        terminated, truncated: (N,) bool, at the episode's last step.
        seeds: (N,) int64, `NO_SEED` where unknown.
    """

    path: Path
    group: zarr.Group
    has_vectors: bool
    lengths: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    seeds: np.ndarray

    @classmethod
    def open(cls, path: Path, header: StoreHeader) -> Shard:
        """Open one to read.

        Args:
            header: of its store.

        Raises:
            ValueError: if it is broken, or a file of it is missing or has changed.
        """
        try:
            group = zarr.open_group(path, mode="r", zarr_format=3)
            if CHECKED in group.attrs or (path / CHECKSUMS).exists():
                check_checksums(path)
            elif not (path / "frames" / "c").exists():  # what of other arrays is all zeros has no file there
                raise ValueError("frames/c is missing")
            shard = cls(path, group, header.vector_size > 0, *(np.asarray(_array(group, n)[:]) for n in PER_EPISODE))
            shard._check(header)
            return shard
        except Exception as error:  # zarr raises many kinds; all mean the same to the user
            raise ValueError(
                f"Shard {path} is broken ({error}); remove that folder and collect the rest again."
            ) from error

    def _check(self, header: StoreHeader) -> None:
        """Raise ValueError unless all arrays are those of such episodes."""
        count = self.lengths.size
        for name, dtype in PER_EPISODE.items():
            array = getattr(self, name)
            _check_layout(name, array.shape, array.dtype.name, (count,), dtype)
        if not count or self.lengths.min() < 1:
            raise ValueError(f"lengths are {self.lengths.tolist()[:8]}")
        steps = int(self._starts[-1])
        action_shape, action_dtype = action_layout(space_from_json(header.action_space))
        layouts: dict[str, tuple[tuple[int, ...], str]] = {
            "frames": ((steps + count, *header.frame_shape), "uint8"),
            "actions": ((steps, *action_shape), action_dtype.name),
            "rewards": ((steps,), "float32"),
        }
        if self.has_vectors:
            layouts["vectors"] = (steps + count, header.vector_size), "float32"
        for name, (shape, dtype) in layouts.items():
            # A small part of what it takes to open an array.
            metadata = json.loads((self.path / name / METADATA).read_text())
            _check_layout(name, tuple(metadata["shape"]), metadata["data_type"], shape, dtype)

    def read(self, k: int, start: int, stop: int) -> Episode:
        """Frames start..stop (exclusive) of the shard's episode k, with the actions and rewards between them.

        Raises:
            ValueError: if the shard is broken.
        """
        step0 = int(self._starts[k])
        frame0 = step0 + k  # each earlier episode of the shard has one frame more than steps
        at_end = stop == int(self.lengths[k]) + 1
        return Episode(
            frames=self._rows("frames", frame0 + start, frame0 + stop),
            actions=self._rows("actions", step0 + start, step0 + stop - 1),
            rewards=self._rows("rewards", step0 + start, step0 + stop - 1),
            terminated=at_end and bool(self.terminated[k]),
            truncated=at_end and bool(self.truncated[k]),
            vectors=self._rows("vectors", frame0 + start, frame0 + stop) if self.has_vectors else None,
            seed=self._seed(k),
        )

    def episodes(self) -> list[Episode]:
        """All episodes: every array is decoded once and the episodes are views of it.

        Raises:
            ValueError: if the shard is broken.
        """
        steps, count = int(self._starts[-1]), len(self.lengths)
        frames = self._rows("frames", 0, steps + count)
        actions, rewards = self._rows("actions", 0, steps), self._rows("rewards", 0, steps)
        vectors = self._rows("vectors", 0, steps + count) if self.has_vectors else None
        episodes = []
        for k in range(count):
            a, b = int(self._starts[k]), int(self._starts[k + 1])
            episodes.append(
                Episode(
                    frames=frames[a + k : b + k + 1],
                    actions=actions[a:b],
                    rewards=rewards[a:b],
                    terminated=bool(self.terminated[k]),
                    truncated=bool(self.truncated[k]),
                    vectors=None if vectors is None else vectors[a + k : b + k + 1],
                    seed=self._seed(k),
                )
            )
        return episodes

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        """(N + 1,) int64, the step at which each episode begins, and the number of all steps."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    def _seed(self, k: int) -> int | None:
        seed = int(self.seeds[k])
        return None if seed == NO_SEED else seed

    @functools.cached_property
    def _opened(self) -> dict[str, Any]:
        """What was asked for so far: the array of frames, and all rows of the others, which are small beside them."""
        return {}

    def _rows(self, name: str, start: int, stop: int) -> np.ndarray:
        try:
            if name not in self._opened:
                array = _array(self.group, name)
                self._opened[name] = array if name == "frames" else array[:]
            rows = self._opened[name][start:stop]
        except Exception as error:
            raise ValueError(
                f"{self.path / name} is broken ({error}); remove {self.path} and collect the rest again."
            ) from error
        return rows if name == "frames" else rows.copy()  # a reader may write into what it got


def _write_array(group: zarr.Group, name: str, data: np.ndarray) -> None:
    row_bytes = max(1, data.nbytes // len(data))
    rows = max(1, min(CHUNK_BYTES // row_bytes, len(data)))
    chunks = (rows, *data.shape[1:])
    shards = (rows * math.ceil(len(data) / rows), *data.shape[1:])  # one file for the whole array
    array = group.create_array(
        name,
        shape=data.shape,
        dtype=data.dtype,
        chunks=chunks,
        shards=shards,
        compressors=ZstdCodec(level=3, checksum=True),
        config={"write_empty_chunks": True},  # so that a file that is missing is no file of zeros
    )
    array[:] = data


def _array(group: zarr.Group, name: str) -> Any:
    """An array of a shard; slices of it are numpy arrays."""
    return group[name]


def _check_layout(name: str, found: tuple[int, ...], dtype: Any, shape: tuple[int, ...], wanted: str) -> None:
    if found != shape or dtype != wanted:
        raise ValueError(f"{name} is {found} {dtype}, not {shape} {wanted}")
