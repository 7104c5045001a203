"""Reads a Minari data set into an episode store: arrays, spaces, seeds, and how its environment is made.

Its spaces are read from its metadata, and its environment is never made. Of an observation with several parts one is
the image and the numbers of the others are the frames' vectors, see `observations.py`. Infos are left out, and named
when all is imported.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from lssvwm_rl.data.episode import Episode, StoreHeader
from lssvwm_rl.data.importers.actions import space_sentence
from lssvwm_rl.data.importers.frames import FrameRule
from lssvwm_rl.data.importers.options import ImportOptions
from lssvwm_rl.data.importers.recording import Recording, as_float32, check_numbers
from lssvwm_rl.data.observations import Parts, only, parts_of
from lssvwm_rl.spaces import action_layout, space_to_json

POLICY = "offline minari"  # in the store's header, of a data set that names none
METADATA = "data/metadata.json"
DATASET_ID = re.compile(r"([\w-]+/)*[\w-]+-v\d+")
ORDER = "vector_keys"  # of an exported store: names of the parts of its vectors, in their order
LARGEST_SEED = 2**63 - 1


def datasets_folder() -> Path:
    """Where Minari keeps data sets: MINARI_DATASETS_PATH, or a folder in the home of the user."""
    named = os.environ.get("MINARI_DATASETS_PATH")
    return Path(named) if named else Path.home() / ".minari" / "datasets"


def dataset_folder(source: str | Path) -> Path | None:
    """Folder of a data set, given itself or by the id of one that is here; None if there is none."""
    folders = [Path(source)]
    if DATASET_ID.fullmatch(str(source)):
        folders.append(datasets_folder() / str(source))
    return next((folder for folder in folders if (folder / METADATA).is_file()), None)


def open_minari(source: str | Path, options: ImportOptions) -> Recording:
    """Read what a data set says of itself.

    Raises:
        FileNotFoundError: if there is none.
        gymnasium.error.DependencyNotInstalled: without Minari.
        ValueError: if it is broken, or of a kind that a world model cannot learn.
    """
    folder = dataset_folder(source)
    if folder is None:
        raise FileNotFoundError(
            f"There is no Minari data set {str(source)!r}; name its folder, or fetch it with `minari download`."
        )
    minari = import_minari()
    try:
        metadata = json.loads((folder / METADATA).read_text())
        missing = [name for name in ("observation_space", "action_space") if name not in metadata]
        if missing:  # Minari would then make the environment, whatever that is
            raise ValueError(f"its metadata does not say its {missing[0]}")
        data = minari.MinariDataset(folder / "data")
        count, observed, acted = data.total_episodes, data.observation_space, data.action_space
    except ImportError as error:
        raise gym.error.DependencyNotInstalled(
            f"The Minari data set {folder} is in a format that needs another package ({error}); install it."
        ) from error
    # What Minari and h5py raise for files that are damaged, and for formats and spaces that they do not know.
    except (OSError, ValueError, LookupError, TypeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"The Minari data set {folder} cannot be read: {error!r}; fetch it again.") from error
    if not count:
        raise ValueError(f"The Minari data set {folder} has no episodes; choose another one.")
    action_layout(acted)
    parts = only(parts_of(observed, options.image), options.vector)
    parts = _ordered(parts, metadata.get(ORDER))
    if parts.left_out:
        warnings.warn(
            f"Stores hold one image and numbers, so {', '.join(parts.left_out)} of the observation is left out.",
            RuntimeWarning,
            stacklevel=2,
        )
    begun = _read(data, 0, folder, parts)
    first, infos = begun.frames, ", ".join(begun.infos)
    rule = FrameRule.of(first[0], options.resize)
    header = StoreHeader(
        rule.shape,
        space_to_json(acted),
        parts.sizes,
        env_spec=None if data.env_spec is None else data.env_spec.to_json(),
        policy=str(metadata.get("algorithm_name") or POLICY),
        observation_space=parts.to_json(rule.shape if first.shape[1:] != rule.shape else None),
    )
    about = [f"Image: {parts.image or 'the observation'}", f"Actions: {space_sentence(acted)}"]
    if metadata.get("jpeg_encoding", True) and metadata.get("minari_version") == "0.5.4":
        about.append("The data set keeps images as JPEG, which has changed them already")
    left_out = f"the data set's infos ({infos})" if infos else ""
    return Recording(header, count, partial(_episodes, data, folder, parts, header, rule), tuple(about), left_out)


def import_minari() -> Any:
    """The package.

    Raises:
        gymnasium.error.DependencyNotInstalled: if it, or what it reads HDF5 with, is missing.
    """
    try:
        import h5py
        import minari
    except ImportError as error:
        raise gym.error.DependencyNotInstalled(
            'Minari data sets are read with minari; install it with `pip install "lssvwm-rl[minari]"`.'
        ) from error
    assert h5py.__name__
    return minari


def _ordered(parts: Parts, names: Any) -> Parts:
    """With the vectors in the order of these names, if they are these."""
    if not isinstance(names, list) or sorted(map(str, names)) != sorted(parts.vectors):
        return parts
    return only(parts, tuple(map(str, names)))


class _Read(NamedTuple):
    """An episode of a data set, as it is in its files."""

    frames: np.ndarray
    vectors: np.ndarray | None
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    infos: tuple[str, ...]
    seed: int | None

    def check(self, vector_size: int, what: str) -> None:
        """Raise ValueError unless there is as much of everything as an episode has, in numbers."""
        steps = len(self.rewards)
        fits = len(self.frames) == steps + 1 > 1 and self.frames.dtype == np.uint8 and self.rewards.dtype.kind in "biuf"
        fits = fits and all(len(part) == steps for part in (self.actions, self.terminated, self.truncated))
        vectors = "" if self.vectors is None else f", vectors {self.vectors.shape}"
        if not fits or (self.vectors is not None and self.vectors.shape != (steps + 1, vector_size)):
            counts = f"{len(self.actions)} actions, {steps} rewards {self.rewards.dtype}"
            ends = f"{len(self.terminated)} terminations and {len(self.truncated)} truncations"
            more = f" and a vector of {vector_size} numbers" if vectors else ""
            raise ValueError(
                f"{what} has {len(self.frames)} images {self.frames.dtype}{vectors}, {counts}, {ends}, and should have "
                f"an image uint8{more} more than of the others; fetch the data set again."
            )


def _read(data: Any, number: int, folder: Path, parts: Parts) -> _Read:
    try:
        episode, seed = data[number], _seed(data, number)
        return _Read(
            frames=parts.frames(episode.observations),
            vectors=parts.vectors_of(episode.observations),
            actions=np.asarray(episode.actions),
            rewards=np.asarray(episode.rewards),
            terminated=np.asarray(episode.terminations),
            truncated=np.asarray(episode.truncations),
            infos=tuple(map(str, episode.infos or ())),
            seed=seed,
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError, RuntimeError) as error:
        raise ValueError(
            f"Episode {number} of {folder} cannot be read: {error!r}; fetch the data set again."
        ) from error


def _episodes(
    data: Any, folder: Path, parts: Parts, header: StoreHeader, rule: FrameRule, begin: int
) -> Iterator[Episode]:
    _, dtype = action_layout(data.action_space)
    for number in range(begin, data.total_episodes):
        what = f"episode {number} of {folder}"
        read = _read(data, number, folder, parts)
        read.check(header.vector_size, what)
        ends = np.stack([read.terminated, read.truncated]).astype(np.bool_)
        if ends[:, :-1].any():
            raise ValueError(f"{what} ends before its last step; split it there.")
        episode = Episode(
            frames=rule.collect(iter(read.frames), len(read.frames), what),
            actions=as_float32(read.actions, "actions") if dtype == np.float32 else read.actions.astype(dtype),
            rewards=as_float32(read.rewards, "rewards"),
            terminated=bool(ends[0, -1]),
            truncated=bool(ends[1, -1]),
            vectors=None if read.vectors is None else as_float32(read.vectors, "vectors"),
            seed=read.seed,
        )
        check_numbers(episode, header, what)
        yield episode


def _seed(data: Any, number: int) -> int | None:
    (about,) = data.storage.get_episode_metadata([number])
    seed = about.get("seed")
    return int(seed) if seed is not None and 0 <= int(seed) <= LARGEST_SEED else None
