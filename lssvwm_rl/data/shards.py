"""A shard: episodes laid end to end along time, as the arrays of one Zarr group.

Frames and vectors have T+1 rows per episode, actions and rewards T. Each array is one file of small chunks, so reading
a clip touches few bytes (`arrays.py`). Every chunk has a checksum of its own, the table of chunks too, and
`checksums.json` has the rest.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import zarr

from lssvwm_rl.data.arrays import METADATA, ArrayFile, layout, write_array
from lssvwm_rl.data.checksums import FILE as CHECKSUMS
from lssvwm_rl.data.checksums import check_checksums, write_checksums
from lssvwm_rl.data.episode import Episode, StoreHeader
from lssvwm_rl.data.recent import Recent
from lssvwm_rl.data.remote import AnyPath, Unreachable
from lssvwm_rl.files import written_whole
from lssvwm_rl.spaces import action_layout, space_from_json

PathT = TypeVar("PathT", bound=AnyPath)
NO_SEED = -1
RECENT_BYTES = 256 * 1024**2  # of arrays of the shards that were read last: all but frames, and where frames are
CHECKED = "checked"  # attribute of the group: there are checksums, which earlier versions did not write
ENDS = ("terminated", "truncated")
PER_EPISODE = {"lengths": "int64", "terminated": "bool", "truncated": "bool", "seeds": "int64"}  # and their dtypes
ARRAYS = ("frames", "actions", "rewards", "vectors", *PER_EPISODE)


def shard_path(store: PathT, number: int) -> PathT:
    """Where a store's shard of that number is."""
    found: Any = store / f"shard-{number:05d}.zarr"  # of the kind of the store's path
    return found


def shard_numbers(store: AnyPath) -> list[int]:
    """The numbers of a store's shards, in order."""
    names = (re.fullmatch(r"shard-(\d{5,})\.zarr", path.name) for path in store.glob("shard-*.zarr"))
    return sorted(int(name[1]) for name in names if name)


def missing_shards(store: PathT) -> list[PathT]:
    """Where shards should be that are not there: between the others, for whether there were more after the last one
    nothing says."""
    numbers = shard_numbers(store)
    return [shard_path(store, number) for number in sorted(set(range(max(numbers, default=-1) + 1)) - set(numbers))]


def write_shard(path: Path, episodes: Sequence[Episode]) -> None:
    """Write episodes of one kind, at least one; the shard appears whole or not at all.

    Raises:
        OSError: if there is such a shard already, which another writer made.
    """
    with written_whole(path) as temporary:
        group = zarr.open_group(temporary, mode="w", zarr_format=3, attributes={CHECKED: True})
        for name in ("frames", "actions", "rewards") + (() if episodes[0].vectors is None else ("vectors",)):
            write_array(group, name, np.concatenate([getattr(e, name) for e in episodes]))
        write_array(group, "lengths", np.array([len(e) for e in episodes], np.int64))
        write_array(group, "terminated", np.array([e.terminated for e in episodes], np.bool_))
        write_array(group, "truncated", np.array([e.truncated for e in episodes], np.bool_))
        seeds = [NO_SEED if e.seed is None else e.seed for e in episodes]
        write_array(group, "seeds", np.array(seeds, np.int64))
        write_checksums(temporary)


@dataclass(frozen=True)
class Shard:
    """An open shard: what is known of its episodes, and where the rest is.

    Attributes:
        path: its folder.
        has_vectors: whether frames have vectors.
        checked: whether it has checksums.
        recent: where its arrays are kept, which all shards of a store share.
        lengths: (N,) int64, steps of each episode.
        terminated, truncated: (N,) bool, at the episode's last step.
        seeds: (N,) int64, `NO_SEED` where unknown.
    """

    path: AnyPath
    has_vectors: bool
    checked: bool
    recent: Recent
    lengths: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    seeds: np.ndarray

    @classmethod
    def open(cls, path: AnyPath, header: StoreHeader, recent: Recent | None = None) -> Shard:
        """Open one to read.

        Args:
            header: of its store.
            recent: see the class; one of its own if not given.

        Raises:
            ValueError: if it is broken, or a file of it is missing or has changed.
        """
        try:
            checked = is_checked(path)
            if checked:
                check_checksums(path)
            facts = (ArrayFile.open(path / name, not checked)[:] for name in PER_EPISODE)
            shard = cls(
                path, header.vector_size > 0, checked, Recent(RECENT_BYTES) if recent is None else recent, *facts
            )
            shard._check(header)
            if not checked:
                shard._check_unwritten()
            return shard
        except Unreachable:
            raise
        except Exception as error:  # of many kinds, which all mean the same to the user
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
        steps = int(self.lengths.sum())
        action_shape, action_dtype = action_layout(space_from_json(header.action_space))
        layouts: dict[str, tuple[tuple[int, ...], str]] = {
            "frames": ((steps + count, *header.frame_shape), "uint8"),
            "actions": ((steps, *action_shape), action_dtype.name),
            "rewards": ((steps,), "float32"),
        }
        if self.has_vectors:
            layouts["vectors"] = (steps + count, header.vector_size), "float32"
        for name, (shape, dtype) in layouts.items():
            found, found_dtype = layout(self.path / name)
            _check_layout(name, found, found_dtype.name, shape, dtype)

    def _check_unwritten(self) -> None:
        """Raise ValueError for a file that is missing, of a shard without checksums.

        What wrote those left out arrays of zeros, which stand for themselves if they can.
        """
        for name in ("frames", "actions", "rewards") + (("vectors",) if self.has_vectors else ()):
            ArrayFile.open(self.path / name, zeros_left_out=name == "rewards")
        unwritten = [name for name in (*PER_EPISODE, "rewards") if not (self.path / name / "c").exists()]
        endless = not (self.terminated | self.truncated).all()
        for name in unwritten:
            if name == "lengths" or (name == "seeds" and len(self.seeds) > 1) or (name in ENDS and endless):
                raise ValueError(f"{name}/c is missing")
        if "rewards" in unwritten:
            warnings.warn(
                f"{self.path} has no file of rewards. Versions that wrote no checksums left it out where all rewards "
                "were 0; if it should have others, the file is missing.",
                RuntimeWarning,
                stacklevel=2,
            )

    def read(self, k: int, start: int, stop: int) -> Episode:
        """Frames start..stop (exclusive) of the shard's episode k, with the actions and rewards between them.

        Raises:
            ValueError: if the shard is broken.
        """
        step0 = int(self.lengths[:k].sum())
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
        starts, count = np.concatenate([[0], np.cumsum(self.lengths)]), len(self.lengths)
        steps = int(starts[-1])
        frames = self._rows("frames", 0, steps + count)
        actions, rewards = self._rows("actions", 0, steps), self._rows("rewards", 0, steps)
        vectors = self._rows("vectors", 0, steps + count) if self.has_vectors else None
        episodes = []
        for k in range(count):
            a, b = int(starts[k]), int(starts[k + 1])
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

    def rewards(self) -> np.ndarray:
        """(sum of all T,) float32, of one episode after the other.

        Raises:
            ValueError: if the shard is broken.
        """
        return self._rows("rewards", 0, int(self.lengths.sum()))

    def actions(self, count: int) -> np.ndarray:
        """(sum of T[, A]) of the first so many episodes, one after the other.

        Raises:
            ValueError: if the shard is broken.
        """
        return self._rows("actions", 0, int(self.lengths[:count].sum()))

    def _seed(self, k: int) -> int | None:
        seed = int(self.seeds[k])
        return None if seed == NO_SEED else seed

    def _rows(self, name: str, start: int, stop: int) -> np.ndarray:
        try:
            # Of frames where they are, of the others, which are small beside them, all rows.
            rows = self.recent.get((self.path, name), lambda: self._array(name))[start:stop]
        except Unreachable:
            raise
        except Exception as error:
            raise ValueError(
                f"{self.path / name} is broken ({error}); remove {self.path} and collect the rest again."
            ) from error
        return rows if name == "frames" else rows.copy()  # a reader may write into what it got

    def _array(self, name: str) -> ArrayFile | np.ndarray:
        array = ArrayFile.open(self.path / name, zeros_left_out=name == "rewards" and not self.checked)
        return array if name == "frames" else array[:]


def is_checked(path: AnyPath) -> bool:
    """Whether a shard has checksums, or says that it should."""
    return (path / CHECKSUMS).exists() or CHECKED in json.loads((path / METADATA).read_text())["attributes"]


def _check_layout(name: str, found: tuple[int, ...], dtype: Any, shape: tuple[int, ...], wanted: str) -> None:
    if found != shape or dtype != wanted:
        raise ValueError(f"{name} is {found} {dtype}, not {shape} {wanted}")
