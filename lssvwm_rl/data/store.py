"""Episode store: a folder of Zarr v3 shards (lossless) beside a JSON header.

    STORE/header.json
    STORE/shard-00000.zarr/{frames,actions,rewards[,vectors],lengths,terminated,truncated,seeds}
    STORE/.lock, of the process that appends

A shard appears once it is whole. How episodes lie in it is in `shards.py`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lssvwm_rl.data.episode import HEADER, Episode, StoreHeader
from lssvwm_rl.data.recent import Recent
from lssvwm_rl.data.remote import RemotePath, local_folder, place
from lssvwm_rl.data.shards import RECENT_BYTES, Shard, shard_numbers, shard_path, write_shard
from lssvwm_rl.files import is_unused, leftovers, only_writer, remove, write_text
from lssvwm_rl.spaces import action_layout, space_from_json

__all__ = ["Episode", "EpisodeStore", "EpisodeWriter", "StoreHeader"]

SHARD_BYTES = 256 * 1024**2  # before compression; bounds what the writer holds in memory
SHARD_SECONDS = 60.0  # from when an episode is taken to when it is on disk: what a killed process loses at most


@contextmanager
def only_appender(path: str | Path) -> Iterator[None]:
    """`files.only_writer` of a store that is there or shall be; blocks may be nested.

    Raises:
        ValueError: if `path` holds other things, or another process appends to it.
    """
    path = local_folder(path)
    if not (is_unused(path) or (path / HEADER).exists()):
        raise ValueError(f"{path} is not empty and not an episode store; choose another folder.")
    with only_writer(path, "store"):
        yield


class EpisodeWriter:
    """Appends episodes to a store, making it if there is none. As long as it is open, no other process can.

    Args:
        path: folder of the store.
        header: what the episodes have in common; must agree with what is already there.
        shard_episodes: episodes per shard; a shard also ends once it is `SHARD_BYTES` large, or its first episode has
            waited for `SHARD_SECONDS`. So a store gets at most 1,440 shards in a day beside the full ones, and opening
            it takes some 2 ms for each.

    Raises:
        ValueError: if `path` holds other things, or episodes of another kind, or another process writes there.
    """

    def __init__(self, path: str | Path, header: StoreHeader, shard_episodes: int = 256):
        self.path, self.shard_episodes = local_folder(path), shard_episodes
        self._action_shape, self._action_dtype = action_layout(space_from_json(header.action_space))
        self._lock = ExitStack()
        self._lock.enter_context(only_appender(self.path))
        try:
            # Looked at only now: another process may just have ended.
            if (self.path / HEADER).exists():
                self.header = StoreHeader.load(self.path)
                self.header.check_same_kind(header, self.path)
            else:
                self.header = header
                write_text(self.path / HEADER, header.to_json())
            for unfinished in leftovers(self.path):
                remove(unfinished)
        except BaseException:
            self._lock.close()
            raise
        self._pending: list[Episode] = []
        self._since = 0.0  # when the first of them came

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(self, *_: object) -> None:
        # Also after an exception: what was added is whole episodes.
        self.close()

    def add(self, episode: Episode) -> None:
        """Take one episode; it is on disk once its shard is.

        Raises:
            ValueError: if its shapes or dtypes are not the store's.
        """
        steps = len(episode.rewards)
        wanted: list[tuple[str, np.ndarray | None, tuple[int, ...], Any]] = [
            ("frames", episode.frames, (steps + 1, *self.header.frame_shape), np.uint8),
            ("actions", episode.actions, (steps, *self._action_shape), self._action_dtype),
            ("rewards", episode.rewards, (steps,), np.float32),
        ]
        if self.header.vector_size:
            wanted.append(("vectors", episode.vectors, (steps + 1, self.header.vector_size), np.float32))
        elif episode.vectors is not None:
            raise ValueError(f"The episode has vectors, the store {self.path} does not; name them in vector_keys.")
        for name, array, shape, dtype in wanted:
            if array is None or array.shape != shape or array.dtype != dtype:
                got = "nothing" if array is None else f"{array.shape} {array.dtype}"
                raise ValueError(
                    f"Episode {name} must be {shape} {np.dtype(dtype)} for the store {self.path}, got {got}."
                )
        if steps == 0:
            raise ValueError("An episode needs at least one step.")
        if not self._pending:
            self._since = time.monotonic()
        self._pending.append(episode)
        pending_bytes = sum(e.frames.nbytes for e in self._pending)
        if len(self._pending) >= self.shard_episodes or pending_bytes >= SHARD_BYTES:
            self.flush()
        self.flush_if_due()

    def flush_if_due(self) -> None:
        """`flush` if an episode has waited for `SHARD_SECONDS`; to be called while the next one is long in coming."""
        if self._pending and time.monotonic() - self._since >= SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the episodes taken so far as a shard (nothing if there are none)."""
        if not self._pending:
            return
        number = 1 + max(shard_numbers(self.path), default=-1)
        write_shard(shard_path(self.path, number), self._pending)
        self._pending = []

    def close(self) -> None:
        """`flush`, and let other processes append."""
        with self._lock:
            self.flush()


class EpisodeStore:
    """Reads a store: the shards that were there when it was opened.

    Args:
        path: folder, or a URL that fsspec knows, such as s3://bucket/store, see `remote`.

    Attributes:
        header: what the episodes have in common.
        lengths: (N,) int64, steps T of each episode.
        seeds: (N,) int64, each episode's environment seed, -1 where unknown.

    Raises:
        ValueError: if there is no store at `path`, or a file of it is missing, broken or has changed.
        remote.Unreachable: if a URL cannot be read.
        gymnasium.error.DependencyNotInstalled: if a package is missing that reads it.
    """

    def __init__(self, path: str | Path | RemotePath):
        self.path = place(path)
        if isinstance(self.path, RemotePath):
            self.path.refresh()  # it may have grown since another one was opened
        self.header = StoreHeader.load(self.path)
        recent = Recent(RECENT_BYTES)
        self._shards = [Shard.open(shard_path(self.path, k), self.header, recent) for k in shard_numbers(self.path)]
        empty = np.zeros(0, np.int64)
        self.lengths = np.concatenate([empty, *(s.lengths for s in self._shards)])
        self.seeds = np.concatenate([empty, *(s.seeds for s in self._shards)])
        self._ends = np.cumsum([len(s.lengths) for s in self._shards])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> Episode:
        i = self._index(i)
        return self.read(i, 0, int(self.lengths[i]) + 1)

    def __iter__(self) -> Iterator[Episode]:
        return (self[i] for i in range(len(self)))

    @property
    def frame_bytes(self) -> int:
        """Bytes of all frames, decoded."""
        return int((self.lengths + 1).sum()) * math.prod(self.header.frame_shape)

    def read(self, i: int, start: int, stop: int) -> Episode:
        """Frames start..stop (exclusive) of episode i, with the actions and rewards between them.

        `terminated` and `truncated` are those of the slice's last step.

        Raises:
            IndexError: if there is no such episode or the range is not inside its T+1 frames.
            ValueError: if the shard is broken.
        """
        i = self._index(i)
        length = int(self.lengths[i])
        if not 0 <= start < stop <= length + 1:
            raise IndexError(f"Frames {start}..{stop} are not inside episode {i}, which has {length + 1} frames.")
        s = int(np.searchsorted(self._ends, i, side="right"))
        shard = self._shards[s]
        return shard.read(i - int(self._ends[s]) + len(shard.lengths), start, stop)

    def episodes_of_shards(self) -> Iterator[list[Episode]]:
        """All episodes, a shard at a time: every array is decoded once and the episodes are views of it.

        Raises:
            ValueError: if a shard is broken.
        """
        for shard, end in zip(self._shards, self._ends.tolist(), strict=True):
            left = len(self) - (end - len(shard.lengths))
            if left > 0:
                yield shard.episodes()[:left]

    def rewards(self) -> np.ndarray:
        """(sum of all T,) float32, of one episode after the other; no frame is decoded.

        Raises:
            ValueError: if a shard is broken.
        """
        parts = [shard.rewards() for shard in self._shards]
        return np.concatenate([np.zeros(0, np.float32), *parts])[: int(self.lengths.sum())]

    def endings(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each shard `terminated` (N,) and `truncated` (N,) of its episodes, and all their actions (sum of T[, A]);
        no frame is decoded.

        Raises:
            ValueError: if a shard is broken.
        """
        for shard, end in zip(self._shards, self._ends.tolist(), strict=True):
            count = min(len(shard.lengths), len(self) - (end - len(shard.lengths)))
            if count > 0:
                yield shard.terminated[:count], shard.truncated[:count], shard.actions(count)

    def first(self, count: int) -> EpisodeStore:
        """The first so many of the episodes, which are the same however much is added to the store."""
        part = copy.copy(self)
        part.lengths, part.seeds = self.lengths[:count], self.seeds[:count]
        return part

    def _index(self, i: int) -> int:
        if not -len(self) <= i < len(self):
            raise IndexError(f"There is no episode {i} in {self.path}, which holds {len(self)}.")
        return int(i) % len(self)
