"""What every importer makes of a source: a header, and its episodes one at a time; and how they become a store."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from lssvwm_rl.data.episode import HEADER, Episode, StoreHeader
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter, only_appender
from lssvwm_rl.files import check_new, written_whole
from lssvwm_rl.spaces import space_from_json


@dataclass(frozen=True)
class Recording:
    """Episodes that somebody else has recorded.

    Attributes:
        header: of a store of them.
        count: how many there are.
        episodes: reads them, in their order, from the one of this number on.
        about: what was found out about them, one sentence each.
        left_out: what of them a store does not hold, with an article; empty if that is nothing, or was warned of.
    """

    header: StoreHeader
    count: int
    episodes: Callable[[int], Iterator[Episode]]
    about: tuple[str, ...] = ()
    left_out: str = ""


def write_recording(
    recording: Recording, out: str | Path, on_episode: Callable[[Episode], None] | None = None
) -> EpisodeStore:
    """Write a recording as the store `out`, which appears once it is whole.

    Args:
        on_episode: called after each episode.

    Raises:
        FileExistsError: if there is something at `out`.
        ValueError: if an episode cannot be read; nothing is left behind.
    """
    check_new(out)
    seen: dict[bytes, int] = {}
    twice: list[tuple[int, int]] = []
    with written_whole(out) as partial:
        with EpisodeWriter(partial, recording.header) as writer:
            for number, episode in enumerate(recording.episodes(0)):
                first = seen.setdefault(_fingerprint(episode), number)
                if first != number:
                    twice.append((first, number))
                writer.add(episode)
                if on_episode is not None:
                    on_episode(episode)
    if twice:
        warnings.warn(
            f"Episodes {twice[0][0]} and {twice[0][1]} are the same, frame by frame, and {len(twice)} in all are the "
            "same as an earlier one; if they are copies, remove them, or one may be trained on and the other tested.",
            RuntimeWarning,
            stacklevel=2,
        )
    return EpisodeStore(out)


def _fingerprint(episode: Episode) -> bytes:
    """Of what happened in an episode."""
    found = sha256(repr((episode.terminated, episode.frames.shape)).encode())
    for array in (episode.frames, episode.actions, episode.rewards, episode.vectors):
        if array is not None:
            found.update(np.ascontiguousarray(array).data)
    return found.digest()


def append_recording(
    recording: Recording,
    source: str | Path,
    out: str | Path,
    on_episode: Callable[[Episode], None] | None = None,
    shard_episodes: int = 256,
) -> EpisodeStore:
    """Fill the store at `out` with a recording, and go on with it where an earlier import ended.

    Args:
        source: of the recording, for errors.
        on_episode: called after each episode.
        shard_episodes: episodes per shard.

    Raises:
        FileExistsError: if the store holds other episodes.
        ValueError: if an episode cannot be read; those before it are in the store.
    """
    out = Path(out)
    with only_appender(out):
        done = 0
        if (out / HEADER).exists():
            stored = EpisodeStore(out)
            done = len(stored)
            # The store does not know names, but what is added or taken away in between would move the last one.
            if done > recording.count or (done and not _same(stored[-1], next(recording.episodes(done - 1)))):
                raise FileExistsError(
                    f"{out} holds episodes that are not the first {done} of {source}; choose another folder."
                )
        if done < recording.count:
            with EpisodeWriter(out, recording.header, shard_episodes) as writer:
                for episode in recording.episodes(done):
                    writer.add(episode)
                    if on_episode is not None:
                        on_episode(episode)
    return EpisodeStore(out)


def _same(a: Episode, b: Episode) -> bool:
    return (
        np.array_equal(a.frames, b.frames)
        and np.array_equal(a.actions, b.actions)
        and np.array_equal(a.rewards, b.rewards)
        and (a.vectors is None) == (b.vectors is None)
        and (a.vectors is None or b.vectors is None or np.array_equal(a.vectors, b.vectors))
    )


def check_numbers(episode: Episode, header: StoreHeader, what: str) -> None:
    """Raise ValueError if a reward, a vector or an action cannot be learnt.

    Args:
        what: names the episode, for the error.
    """
    for name, array in (("reward", episode.rewards), ("vector", episode.vectors), ("action", episode.actions)):
        finite = np.isfinite(array.reshape(len(array), -1)).all(axis=1) if array is not None else np.ones(0, bool)
        if not finite.all():
            assert array is not None
            row = int(np.argmin(finite))
            raise ValueError(
                f"The {name} of step {row} of {what} is {array[row].tolist()}; put a finite number there, or leave the "
                "episode out."
            )
    space = space_from_json(header.action_space)
    inside: Any
    if isinstance(space, spaces.Discrete):
        inside = (episode.actions >= space.start) & (episode.actions < int(space.start) + int(space.n))
    elif isinstance(space, spaces.MultiDiscrete):
        counted = episode.actions - space.start.astype(np.int64)
        inside = ((counted >= 0) & (counted < space.nvec)).all(axis=1)
    else:
        assert isinstance(space, spaces.Box)
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
        inside = ((episode.actions >= low) & (episode.actions <= high)).all(axis=1)
    if not inside.all():
        row = int(np.argmin(inside))
        raise ValueError(
            f"The action of step {row} of {what} is {episode.actions[row].tolist()}, which is not in {space}; correct "
            "it, or leave the episode out."
        )


def float32(array: np.ndarray) -> np.ndarray:
    """Numbers as stores keep them; those too large for it become infinite, which `check_numbers` refuses."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def as_float32(array: np.ndarray, what: str) -> np.ndarray:
    """Numbers as stores keep them, with a warning if that changes them.

    Args:
        what: they are, for the warning, which is given once for each.
    """
    if array.dtype == np.float32:
        return array
    kept = float32(array)
    if np.isfinite(kept).all() and not np.array_equal(kept.astype(array.dtype), array):
        warnings.warn(f"Stores keep {what} as float32, which rounds their {array.dtype}.", RuntimeWarning, stacklevel=2)
    return kept
