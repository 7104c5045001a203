"""Episode store: a folder of Zarr v3 shards (lossless) beside a JSON header.

    STORE/header.json
    STORE/shard-00000.zarr/{frames,actions,rewards[,vectors],lengths,terminated,truncated,seeds}

Episodes of a shard are laid end to end along time: frames and vectors have T+1 rows per episode, actions and rewards T.
Each array is one file of small chunks, so reading a clip touches few bytes. A shard appears by rename once it is whole.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from lssvwm_rl.spaces import action_layout, space_from_json

FORMAT_VERSION = 1
CHUNK_BYTES = 256 * 1024  # before compression
SHARD_BYTES = 256 * 1024**2  # before compression; bounds what the writer holds in memory
SHARD_GLOB = "shard-*.zarr"
NO_SEED = -1


@dataclass(frozen=True)
class Episode:
    """T steps: the observation before each and after the last, as Gymnasium gives them."""

    frames: np.ndarray  # (T+1, H, W, C) uint8
    actions: np.ndarray  # (T,) int64 for Discrete, (T, A) int64 for MultiDiscrete, (T, A) float32 for Box
    rewards: np.ndarray  # (T,) float32
    terminated: bool  # at the last step
    truncated: bool
    vectors: np.ndarray | None = None  # (T+1, V) float32
    seed: int | None = None

    def __len__(self) -> int:
        return len(self.actions)


def _versions() -> dict[str, str]:
    found = {}
    for name in ("lssvwm-rl", "gymnasium", "numpy", "zarr", "minigrid"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class StoreHeader:
    """What every episode of a store has in common."""

    frame_shape: tuple[int, int, int]
    action_space: dict[str, Any]  # as `lssvwm_rl.spaces.space_to_json` writes it
    vector_keys: dict[str, int] = field(default_factory=dict)  # name -> size, in the order of concatenation
    env_spec: str | None = None  # JSON of a gymnasium EnvSpec
    policy: str = "unknown"
    seeds: tuple[int, ...] = ()  # base seeds of the collections; every episode also has its own
    versions: dict[str, str] = field(default_factory=_versions)
    format_version: int = FORMAT_VERSION

    @property
    def vector_size(self) -> int:
        """Numbers in a frame's vector, 0 if the store has none."""
        return sum(self.vector_keys.values())

    def to_json(self) -> str:
        """Strict JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def load(cls, folder: Path) -> StoreHeader:
        """Read a store's header.

        Raises:
            ValueError: if there is none, it is broken, or another format.
        """
        path = folder / "header.json"
        if not path.is_file():
            raise ValueError(f"No episode store at {folder}: header.json is missing; make one with `lssvwm collect`.")
        try:
            d = json.loads(path.read_text())
            version = d["format_version"]
            if version != FORMAT_VERSION:
                raise ValueError(f"format version {version}, this package reads {FORMAT_VERSION}; collect it again")
            return cls(**{**d, "frame_shape": tuple(d["frame_shape"]), "seeds": tuple(d["seeds"])})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"Header {path} cannot be used: {error}.") from error

    def check_same_kind(self, other: StoreHeader, folder: Path) -> None:
        """Raise ValueError unless episodes of `other` may join this store."""
        for name in ("frame_shape", "action_space", "vector_keys"):
            ours, theirs = getattr(self, name), getattr(other, name)
            # Key order of the vectors is the order of their columns.
            if ours != theirs or (isinstance(ours, dict) and list(ours) != list(theirs)):
                raise ValueError(f"{folder} holds episodes with {name} {ours}, not {theirs}; choose another folder.")
        ours, theirs = (json.loads(h.env_spec) if h.env_spec else None for h in (self, other))
        if ours and theirs and any(ours.get(k) != theirs.get(k) for k in ("id", "kwargs")):
            raise ValueError(
                f"{folder} holds episodes of {ours.get('id')}, not {theirs.get('id')}; choose another folder."
            )


class EpisodeWriter:
    """Appends episodes to a store, making it if there is none.

    Args:
        path: folder of the store.
        header: what the episodes have in common; must agree with what is already there.
        shard_episodes: episodes per shard; a shard also ends once it is `SHARD_BYTES` large.

    Raises:
        ValueError: if `path` holds other things, or episodes of another kind.
    """

    def __init__(self, path: str | Path, header: StoreHeader, shard_episodes: int = 256):
        self.path, self.shard_episodes = Path(path), shard_episodes
        action_shape, self._action_dtype = action_layout(space_from_json(header.action_space))
        self._action_shape = action_shape
        self.path.mkdir(parents=True, exist_ok=True)
        if (self.path / "header.json").exists():
            self.header = StoreHeader.load(self.path)
            self.header.check_same_kind(header, self.path)
        elif any(p for p in self.path.iterdir() if not p.name.startswith(".tmp-")):
            raise ValueError(f"{self.path} is not empty and not an episode store; choose another folder.")
        else:
            self.header = header
            temporary = self.path / ".tmp-header.json"
            temporary.write_text(header.to_json())
            os.replace(temporary, self.path / "header.json")
        for leftover in self.path.glob(".tmp-*"):  # of a writer that was killed
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        self._shard = 1 + max((int(p.stem.split("-")[1]) for p in self.path.glob(SHARD_GLOB)), default=-1)
        self._pending: list[Episode] = []

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(self, *_: object) -> None:
        # Also after an exception: what was added is whole episodes.
        self.flush()

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
        self._pending.append(episode)
        pending_bytes = sum(e.frames.nbytes for e in self._pending)
        if len(self._pending) >= self.shard_episodes or pending_bytes >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the episodes taken so far as a shard (nothing if there are none)."""
        if not self._pending:
            return
        name = f"shard-{self._shard:05d}.zarr"
        temporary = self.path / f".tmp-{name}"
        group = zarr.open_group(temporary, mode="w", zarr_format=3)
        names = ["frames", "actions", "rewards"] + (["vectors"] if self.header.vector_size else [])
        for key in names:
            _write_array(group, key, np.concatenate([getattr(e, key) for e in self._pending]))
        _write_array(group, "lengths", np.array([len(e) for e in self._pending], np.int64))
        _write_array(group, "terminated", np.array([e.terminated for e in self._pending], np.bool_))
        _write_array(group, "truncated", np.array([e.truncated for e in self._pending], np.bool_))
        seeds = [NO_SEED if e.seed is None else e.seed for e in self._pending]
        _write_array(group, "seeds", np.array(seeds, np.int64))
        os.rename(temporary, self.path / name)  # refuses to replace a shard another writer made meanwhile
        self._shard += 1
        self._pending = []


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
    )
    array[:] = data


def _array(group: zarr.Group, name: str) -> Any:
    """An array of a shard; slices of it are numpy arrays."""
    return group[name]


@dataclass(frozen=True)
class _Shard:
    """One shard: its open arrays and where each episode begins."""

    name: str
    group: zarr.Group
    lengths: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    seeds: np.ndarray

    @classmethod
    def open(cls, path: Path) -> _Shard:
        try:
            group = zarr.open_group(path, mode="r", zarr_format=3)
            lengths, terminated, truncated, seeds = (
                _array(group, name)[:] for name in ("lengths", "terminated", "truncated", "seeds")
            )
            return cls(path.name, group, lengths, terminated, truncated, seeds)
        except Exception as error:  # zarr raises many kinds; all mean the same to the user
            raise ValueError(
                f"Shard {path} is broken ({error}); remove that folder and collect the rest again."
            ) from error

    @functools.cached_property
    def starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.lengths)])

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        try:
            return _array(self.group, name)[start:stop]
        except Exception as error:
            raise ValueError(
                f"Shard {self.name}: {name} is broken ({error}); remove that folder and collect again."
            ) from error


class EpisodeStore:
    """Reads a store: the shards that were there when it was opened.

    Attributes:
        header: what the episodes have in common.
        lengths: (N,) int64, steps T of each episode.
        seeds: (N,) int64, each episode's environment seed, -1 where unknown.

    Raises:
        ValueError: if there is no store at `path` or one of its shards is broken.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.header = StoreHeader.load(self.path)
        self._shards = [_Shard.open(p) for p in sorted(self.path.glob(SHARD_GLOB))]
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
        """
        i = self._index(i)
        length = int(self.lengths[i])
        if not 0 <= start < stop <= length + 1:
            raise IndexError(f"Frames {start}..{stop} are not inside episode {i}, which has {length + 1} frames.")
        shard, k = self._locate(i)
        step0 = int(shard.starts[k])
        frame0 = step0 + k  # k earlier episodes of the shard have one frame more than steps
        at_end = stop == length + 1
        seed = int(shard.seeds[k])
        return Episode(
            frames=shard.rows("frames", frame0 + start, frame0 + stop),
            actions=shard.rows("actions", step0 + start, step0 + stop - 1),
            rewards=shard.rows("rewards", step0 + start, step0 + stop - 1),
            terminated=at_end and bool(shard.terminated[k]),
            truncated=at_end and bool(shard.truncated[k]),
            vectors=shard.rows("vectors", frame0 + start, frame0 + stop) if self.header.vector_size else None,
            seed=None if seed == NO_SEED else seed,
        )

    def episodes_of_shards(self) -> Iterator[list[Episode]]:
        """All episodes, a shard at a time: every array is decoded once and the episodes are views of it."""
        for shard in self._shards:
            steps, count = int(shard.starts[-1]), len(shard.lengths)
            frames = shard.rows("frames", 0, steps + count)
            actions, rewards = shard.rows("actions", 0, steps), shard.rows("rewards", 0, steps)
            vectors = shard.rows("vectors", 0, steps + count) if self.header.vector_size else None
            episodes = []
            for k in range(count):
                a, b = int(shard.starts[k]), int(shard.starts[k + 1])
                episodes.append(
                    Episode(
                        frames=frames[a + k : b + k + 1],
                        actions=actions[a:b],
                        rewards=rewards[a:b],
                        terminated=bool(shard.terminated[k]),
                        truncated=bool(shard.truncated[k]),
                        vectors=None if vectors is None else vectors[a + k : b + k + 1],
                        seed=None if shard.seeds[k] == NO_SEED else int(shard.seeds[k]),
                    )
                )
            yield episodes

    def _index(self, i: int) -> int:
        if not -len(self) <= i < len(self):
            raise IndexError(f"There is no episode {i} in {self.path}, which holds {len(self)}.")
        return int(i) % len(self)

    def _locate(self, i: int) -> tuple[_Shard, int]:
        s = int(np.searchsorted(self._ends, i, side="right"))
        shard = self._shards[s]
        return shard, i - int(self._ends[s]) + len(shard.lengths)
