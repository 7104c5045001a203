"""An episode as arrays, and what all episodes of a store have in common."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lssvwm_rl.data.remote import AnyPath

FORMAT_VERSION = 1
HEADER = "header.json"
CHECKSUM = "sha256"  # in a header, of everything else in it


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

    def cut(self, start: int, stop: int) -> Episode:
        """Frames start..stop (exclusive), at least one, with the actions and rewards between them, as views."""
        at_end = stop == len(self.frames)
        return dataclasses.replace(
            self,
            frames=self.frames[start:stop],
            actions=self.actions[start : stop - 1],
            rewards=self.rewards[start : stop - 1],
            terminated=at_end and self.terminated,
            truncated=at_end and self.truncated,
            vectors=None if self.vectors is None else self.vectors[start:stop],
        )


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
    observation_space: dict[str, Any] | None = None  # of what frames and vectors were taken from, see `observations.py`
    from_info: tuple[str, ...] = ()  # vector keys that came from `info`, which agents do not see

    @property
    def vector_size(self) -> int:
        """Numbers in a frame's vector, 0 if the store has none."""
        return sum(self.vector_keys.values())

    def environment(self) -> tuple[str, dict[str, Any]] | None:
        """Gymnasium id and arguments of the environment that the episodes are of, None if it is unknown.

        A store may come from anyone, and `gymnasium.make("module:id")` imports the module. So a file names only
        environments that are registered under their id, and no argument that could name a module.

        Raises:
            ValueError: if the header names code, or something that is no environment.
        """
        if self.env_spec is None:
            return None
        try:
            spec = json.loads(self.env_spec)
            env_id, kwargs = spec["id"], spec.get("kwargs") or {}
            fine = isinstance(env_id, str) and isinstance(kwargs, dict)
        except (ValueError, KeyError, TypeError, AttributeError):
            fine = False
        if not fine:
            raise ValueError(f"The header says {self.env_spec[:80]!r} of its environment; name one with --env.")
        naming = [text for text in _texts([env_id, kwargs]) if ":" in text]
        if naming:
            raise ValueError(
                f"The header names an environment by the code {naming[0]!r}, which is not imported because a file says "
                "so; name the environment with --env if you trust it."
            )
        return env_id, kwargs

    def to_json(self) -> str:
        """Strict JSON text, with a checksum."""
        d = json.loads(json.dumps(dataclasses.asdict(self)))
        for name in ("observation_space", "from_info"):
            if not d[name]:  # as versions wrote it that did not know it
                del d[name]
        return json.dumps({**d, CHECKSUM: _checksum(d)}, indent=2)

    @classmethod
    def load(cls, folder: AnyPath) -> StoreHeader:
        """Read a store's header.

        Raises:
            ValueError: if there is none, it is broken or has changed, or another format.
        """
        path = folder / HEADER
        if not path.is_file():
            raise ValueError(f"No episode store at {folder}: header.json is missing; make one with `lssvwm collect`.")
        try:
            d = _json_object(path)
            known = d.pop(CHECKSUM, None)  # of a header of an earlier version nothing is known
            if known is not None and known != _checksum(d):
                raise ValueError(
                    f"it has changed since it was written; put it back, or remove its {CHECKSUM} if you mean it"
                )
            version = d["format_version"]
            if version != FORMAT_VERSION:
                raise ValueError(f"format version {version}, this package reads {FORMAT_VERSION}; collect it again")
            for name in ("frame_shape", "seeds"):
                d[name] = tuple(d[name])
            return cls(**{**d, "from_info": tuple(d.get("from_info", ()))})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"Header {path} cannot be used: {error}.") from error

    def check_same_kind(self, other: StoreHeader, folder: AnyPath) -> None:
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


def _json_object(path: AnyPath) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON ({error}); copy it again from where it was made") from error
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object; copy it again from where it was made")
    return found


def _checksum(header: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _texts(value: Any) -> Iterator[str]:
    """All strings in a JSON value, names of its members included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _texts([name, part])
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
