"""The files of a LeRobot data set of version 3: what `meta` says, and the tables."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import gymnasium as gym
import numpy as np

INFO = "meta/info.json"
VERSION = "v3."
CAMERAS = ("video", "image")  # dtypes of features


@dataclass(frozen=True)
class Dataset:
    """What `meta` says.

    Attributes:
        root: its folder.
        info: of `info.json`.
        camera: feature of the frames.
        episodes: a row for each, by number.
    """

    root: Path
    info: dict[str, Any]
    camera: str
    episodes: list[dict[str, Any]]

    @property
    def in_video(self) -> bool:
        """Whether frames are in videos, not in the rows."""
        return self.info["features"][self.camera]["dtype"] == "video"

    def data_file(self, episode: dict[str, Any]) -> Path:
        """Where the rows of an episode are."""
        return self._file("data_path", episode, "data", {})

    def frame_file(self, episode: dict[str, Any]) -> Path:
        """Where its frames are."""
        if not self.in_video:
            return self.data_file(episode)
        return self._file("video_path", episode, f"videos/{self.camera}", {"video_key": self.camera})

    def begin(self, episode: dict[str, Any]) -> float:
        """Seconds into its video at which an episode begins."""
        return float(episode[f"videos/{self.camera}/from_timestamp"])

    def _file(self, template: str, episode: dict[str, Any], where: str, names: dict[str, str]) -> Path:
        chunk, file = int(episode[f"{where}/chunk_index"]), int(episode[f"{where}/file_index"])
        try:
            named = str(self.info[template]).format(chunk_index=chunk, file_index=file, **names)
        except (LookupError, ValueError, AttributeError) as error:
            raise ValueError(f"{self.root / INFO} has no usable {template} ({error!r}); copy it again.") from error
        path = inside(self.root, named)
        if not path.is_file():
            raise ValueError(f"There is no {path}, where episode {episode['episode_index']} should be; copy it there.")
        return path


def open_dataset(root: Path, camera: str | None) -> Dataset:
    """Read what `meta` says.

    Args:
        camera: feature of the frames, if there are several.

    Raises:
        gymnasium.error.DependencyNotInstalled: without pyarrow.
        ValueError: if it is of another version, a file is missing or broken, or there is no telling which camera.
    """
    try:
        info = json.loads((root / INFO).read_text(encoding="utf-8"))
        version, features = str(info["codebase_version"]), info["features"]
    except FileNotFoundError as error:
        raise ValueError(f"There is no {root / INFO}, which every LeRobot data set has; copy it there.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{root / INFO} cannot be read ({error!r}); copy the data set again.") from error
    if not version.startswith(VERSION):
        raise ValueError(
            f"{root} is a LeRobot data set of version {version}, and {VERSION}0 is read; convert it with LeRobot's "
            "convert_dataset_v21_to_v30."
        )
    try:
        cameras = [name for name, feature in features.items() if _described(feature)["dtype"] in CAMERAS]
        if not 0 < float(info["fps"]) < math.inf:
            raise ValueError(f"fps is {info['fps']}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{root / INFO} cannot be read ({error!r}); copy the data set again.") from error
    if camera is not None and camera not in cameras:
        raise ValueError(f"{root} has no camera {camera!r}, only {', '.join(cameras) or 'none'}; name another one.")
    if camera is None and len(cameras) != 1:
        raise ValueError(
            f"{root} has the cameras {', '.join(cameras)}; say which one with --image KEY."
            if cameras
            else f"{root} has no camera, and a world model needs images; choose another data set."
        )
    found = Dataset(root, info, camera or cameras[0], [])
    found.episodes.extend(_episodes(found))
    return found


def _described(feature: dict[str, Any]) -> dict[str, Any]:
    """A feature that says what it is: a dtype and a shape.

    Raises:
        ValueError: if it does not.
    """
    if not isinstance(feature["dtype"], str) or not all(isinstance(size, int) for size in feature["shape"]):
        raise ValueError(f"a feature has the dtype {feature['dtype']} and the shape {feature['shape']}")
    return feature


def _episodes(found: Dataset) -> list[dict[str, Any]]:
    """A row for each episode, in their order."""
    root = found.root
    needed = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    if found.in_video:
        needed += [f"videos/{found.camera}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
    episodes: list[dict[str, Any]] = []
    for file in sorted((root / "meta" / "episodes").rglob("*.parquet")):
        rows = read_table(file, needed).to_pylist()
        for name in needed:
            wrong = next((row[name] for row in rows if not _counts(row[name], name.endswith("timestamp"))), 0)
            if wrong != 0:
                raise ValueError(f"{name!r} is {wrong!r} in a row of {file}; copy the data set again.")
        episodes += rows
    episodes.sort(key=lambda episode: episode["episode_index"])
    if not episodes:
        raise ValueError(f"{root} has no episodes; copy the data set again.")
    for before, episode in zip([None, *episodes], episodes, strict=False):
        number = episode["episode_index"]
        if before is not None and before["episode_index"] == number:
            raise ValueError(f"Episode {number} is twice in the tables of {root / 'meta/episodes'}; remove one.")
        if episode["length"] < 2:
            raise ValueError(f"Episode {number} of {root} has no two frames; leave it out.")
    return episodes


def _counts(value: Any, fraction: bool) -> bool:
    """Whether a value of an episode's row is a whole number from 0, or, if it may have a fraction, any such one."""
    return isinstance(value, int | float if fraction else int) and 0 <= value < math.inf


def inside(root: Path, named: str) -> Path:
    """A file of the data set; what it says of itself must not lead out of it.

    Raises:
        ValueError: if it does.
    """
    path = PurePosixPath(named)
    if path.is_absolute() or ".." in path.parts or Path(named).is_absolute():
        raise ValueError(f"{root} speaks of the file {named!r}, which is not inside of it; use another data set.")
    return root / path


def read_table(file: Path, columns: Sequence[str]) -> Any:
    """These columns of a Parquet file.

    Raises:
        gymnasium.error.DependencyNotInstalled: without pyarrow.
        ValueError: if it cannot be read, or has no such column.
    """
    parquet = import_parquet()
    try:
        opened = parquet.ParquetFile(file)
        known = set(opened.schema_arrow.names)
        missing = [name for name in columns if name not in known]
        if missing:
            raise ValueError(f"it has no column {missing[0]!r}, only {', '.join(sorted(known))}")
        return opened.read(columns=list(columns))
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise ValueError(f"{file} cannot be read: {error}; copy the data set again.") from error


def numbers(column: Any, what: str) -> np.ndarray:
    """(N, size) of a column of numbers, or of lists of as many numbers each.

    Args:
        what: they are, for the error.

    Raises:
        ValueError: if they are something else.
    """
    from pyarrow.compute import list_value_length, unique

    array, count, even = column.combine_chunks(), len(column), True
    while hasattr(array, "flatten") and "list" in str(array.type):
        even = even and len(unique(list_value_length(array))) <= 1
        array = array.flatten()
    found = array.to_numpy(zero_copy_only=False)
    if found.dtype.kind not in "biuf" or not even or (count and len(found) % count):
        raise ValueError(f"{what} is not numbers, as many in each row; name another feature.")
    return (found.astype(np.int64) if found.dtype.kind in "biu" else found).reshape(count, -1)


def import_parquet() -> Any:
    """The package that reads Parquet.

    Raises:
        gymnasium.error.DependencyNotInstalled: if it is missing.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise gym.error.DependencyNotInstalled(
            'LeRobot data sets are read with pyarrow; install it with `pip install "lssvwm-rl[parquet]"`.'
        ) from error
    return parquet
