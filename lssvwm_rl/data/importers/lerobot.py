"""Reads a LeRobot data set of version 3 into an episode store.

    SOURCE/meta/info.json                             version, features, frames per second, where files are
    SOURCE/meta/episodes/chunk-000/file-000.parquet   of each episode, where its rows and its frames are
    SOURCE/data/chunk-000/file-000.parquet            a row for each frame, of one episode after the other
    SOURCE/videos/KEY/chunk-000/file-000.mp4          the frames of a camera, likewise

That is how `lerobot.datasets` of huggingface/lerobot writes them (`dataset_writer.py`, `utils.py`). Row i of an episode
is what was seen at frame i and the action that was taken there, so the last action of an episode leads to no frame, and
is left out with its reward.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from lssvwm_rl.data.episode import Episode, StoreHeader
from lssvwm_rl.data.importers.actions import inferred_space, space_sentence, stored_actions
from lssvwm_rl.data.importers.frames import FrameRule, decoded_image, timed_frames
from lssvwm_rl.data.importers.lerobot_files import (
    INFO,
    Dataset,
    import_parquet,
    inside,
    numbers,
    open_dataset,
    read_table,
)
from lssvwm_rl.data.importers.options import ImportOptions
from lssvwm_rl.data.importers.recording import Recording, as_float32, check_numbers
from lssvwm_rl.spaces import space_from_json, space_to_json

POLICY = "offline lerobot"  # in the store's header
ACTION, REWARD = "action", "next.reward"
OBSERVATION = "observation"  # what the names of the vectors begin with
BATCH = 32  # rows with encoded images that are read at a time


@dataclass(frozen=True)
class _Rows:
    """The rows of an episode of N frames."""

    actions: np.ndarray  # (N, A)
    rewards: np.ndarray | None  # (N,)
    vectors: np.ndarray | None  # (N, V) float32


def open_lerobot(source: str | Path, options: ImportOptions) -> Recording:
    """Read all rows but the frames.

    Raises:
        gymnasium.error.DependencyNotInstalled: without pyarrow.
        ValueError: if it is of another version, a file is missing or broken, or there is no telling which camera.
    """
    data = open_dataset(Path(source), options.image)
    vectors = _vector_keys(data, options)
    columns = options.action_column or (ACTION,)
    features = data.info["features"]
    for name in (*columns, *vectors):
        if name not in features:
            raise ValueError(f"{data.root} has no feature {name!r}, only {', '.join(features)}; name another one.")
    rows = _rows(data, columns, vectors, REWARD if REWARD in features else None)
    space = inferred_space([each.actions[:-1] for each in rows], options.actions)
    rule = FrameRule.of_first(_frames(data, data.episodes[0], _Streams(data)), options.resize, str(data.root))
    header = StoreHeader(rule.shape, space_to_json(space), vectors, policy=POLICY)
    about = [f"Image: {data.camera}", f"Actions: {space_sentence(space)}, from {' and '.join(columns)}"]
    about.append("The last action of each episode is left out: the frame that it led to was not recorded")
    lost = [float(each.rewards[-1]) for each in rows if each.rewards is not None]
    if any(lost):
        warnings.warn(
            f"With the last actions of the episodes, rewards of {sum(lost):g} in all are left out.",
            RuntimeWarning,
            stacklevel=2,
        )
    if not lost:
        about.append(f"There is no feature {REWARD!r}: all rewards are 0")
    return Recording(header, len(rows), partial(_episodes, data, rows, header, rule), tuple(about))


def _vector_keys(data: Dataset, options: ImportOptions) -> dict[str, int]:
    """Features that become the frames' vectors, and their sizes: those named, or all that were observed."""
    features = data.info["features"]
    names = [
        name for name, about in features.items()
        if name.startswith(OBSERVATION) and about["dtype"].startswith(("float", "int", "bool"))
    ] if options.vector is None else list(options.vector)  # fmt: skip
    return {name: int(np.prod(features[name]["shape"])) if name in features else 0 for name in names}


def _rows(data: Dataset, actions: Sequence[str], vectors: Mapping[str, int], reward: str | None) -> list[_Rows]:
    names = [*actions, *vectors, *([reward] if reward else [])]
    found: list[_Rows] = []
    last: tuple[Path | None, dict[str, np.ndarray]] = None, {}
    for episode in data.episodes:
        file, number, length = data.data_file(episode), episode["episode_index"], episode["length"]
        if last[0] != file:
            table = read_table(file, [*names, "episode_index"])
            last = file, {name: numbers(table[name], f"{name!r} of {file}") for name in {*names, "episode_index"}}
        own = last[1]["episode_index"][:, 0] == number
        if own.sum() != length:
            raise ValueError(
                f"{file} has {own.sum()} rows of episode {number}, which has {length} frames; copy the data set again."
            )
        seen = [as_float32(last[1][name][own], f"the vectors {name!r}") for name in vectors]
        for (name, size), each in zip(vectors.items(), seen, strict=True):
            if each.shape[1] != size:
                raise ValueError(
                    f"{name!r} of {file} has {each.shape[1]} numbers in a row, and {size} in {data.root / INFO}; copy "
                    "the data set again."
                )
        found.append(
            _Rows(
                np.concatenate([last[1][name][own] for name in actions], axis=1),
                as_float32(last[1][reward][own][:, 0], "rewards") if reward else None,
                np.concatenate(seen, axis=1) if seen else None,
            )
        )
    return found


def _episodes(
    data: Dataset, rows: Sequence[_Rows], header: StoreHeader, rule: FrameRule, first: int
) -> Iterator[Episode]:
    space: gym.Space = space_from_json(header.action_space)
    streams = _Streams(data)
    for episode, each in zip(data.episodes[first:], rows[first:], strict=True):
        length, what = episode["length"], f"episode {episode['episode_index']} of {data.root}"
        frames = rule.collect(_frames(data, episode, streams), length, what)
        if len(frames) != length:
            raise ValueError(
                f"{data.frame_file(episode)} has {len(frames)} frames of {what}, which has {length} rows; copy the "
                "dataset again."
            )
        rewards = np.zeros(length - 1, np.float32) if each.rewards is None else each.rewards[:-1]
        # Whether the last action ended the episode is not known of the frame before it.
        found = Episode(frames, stored_actions(each.actions[:-1], space), rewards, False, True, each.vectors)
        check_numbers(found, header, what)
        yield found


@dataclass
class _Stream:
    """Frames of a file in their order, each with where it belongs; one that was not wanted yet is kept."""

    items: Iterator[tuple[float, np.ndarray]]
    kept: tuple[float, np.ndarray] | None = None

    def between(self, begin: float, end: float) -> Iterator[np.ndarray]:
        """The frames from `begin` to `end`, exclusive."""
        while (item := self.kept or next(self.items, None)) is not None:
            self.kept = item if item[0] >= end else None
            if item[0] >= end:
                return
            if item[0] >= begin:
                yield item[1]


class _Streams:
    """The file that is being read: episodes lie in it one after the other, and so it is decoded once."""

    def __init__(self, data: Dataset) -> None:
        self.data = data
        self.file, self.end = Path(), 0.0
        self.stream = _Stream(iter(()))

    def at(self, file: Path, begin: float, end: float, slack: float = 0.0) -> _Stream:
        """The stream of a file, opened again if it has passed `begin` by more than `slack`."""
        if file != self.file or begin < self.end - slack:
            self.file, self.stream = file, _Stream(_items(self.data, file))
        self.end = end
        return self.stream


def _frames(data: Dataset, episode: dict[str, Any], streams: _Streams) -> Iterator[np.ndarray]:
    """Those of an episode: in a video from its beginning on, in rows by its number."""
    file = data.frame_file(episode)
    if not data.in_video:
        number = episode["episode_index"]
        return streams.at(file, number, number + 1).between(number, number + 1)
    fps = float(data.info["fps"])
    begin = data.begin(episode) - 0.5 / fps
    end = begin + episode["length"] / fps
    return streams.at(file, begin, end, slack=0.25 / fps).between(begin, end)


def _items(data: Dataset, file: Path) -> Iterator[tuple[float, np.ndarray]]:
    if data.in_video:
        fps = float(data.info["fps"])
        for number, (time, frame) in enumerate(timed_frames(file)):
            yield number / fps if time is None else time, frame
        return
    for image, number in _image_rows(data, file):
        what = f"An image of episode {number} in {file}"
        if not isinstance(image, dict) or not (image.get("bytes") or image.get("path")):
            raise ValueError(f"{what} is missing; copy the data set again.")
        encoded = image.get("bytes")
        yield number, decoded_image(encoded or _bytes(inside(data.root, image["path"]), what), what)


def _image_rows(data: Dataset, file: Path) -> Iterator[tuple[Any, int]]:
    """Encoded images, and the numbers of their episodes."""
    parquet = import_parquet()
    try:
        for batch in parquet.ParquetFile(file).iter_batches(BATCH, columns=[data.camera, "episode_index"]):
            yield from zip(batch[data.camera].to_pylist(), batch["episode_index"].to_pylist(), strict=True)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise ValueError(f"{file} cannot be read: {error}; copy the data set again.") from error


def _bytes(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{what} should be at {path} ({error.strerror}); copy it there.") from error
