"""Reads trajectories stored as one NPZ file per episode, as the offline data of Memory Maze are, into an episode store.

Such a file has T+1 rows in every array. Row 0 is the observation before the first action; `action` and `reward` of a
row are the last ones, which led *into* that row's `image`, and row 0 of both is filler. That is what the README of
`memory-maze` says of its data ("last action", "last reward", 1001 rows for 1000 steps), and its recording wrapper
writes zeros there. The store pairs them as Gymnasium does: action i leads from frame i to frame i + 1.

No published file was read for this, only their description.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from gymnasium.spaces import Discrete

from lssvwm_rl.data.importers.actions import space_sentence
from lssvwm_rl.data.importers.options import ImportOptions
from lssvwm_rl.data.importers.recording import Recording, append_recording
from lssvwm_rl.data.store import Episode, EpisodeStore, StoreHeader
from lssvwm_rl.spaces import space_from_json, space_to_json

POLICY = "offline npz"  # in the store's header
POSE = "pose"
NEEDED = ("image", "action", "reward")
POSE_PARTS = ("agent_pos", "agent_dir", "maze_layout")  # what a pose is made of
OPTIONAL = ("terminal", "reset")


def npz_files(source: str | Path) -> list[Path]:
    """The NPZ files in a folder and the folders in it, by name; or the one file.

    Raises:
        FileNotFoundError: if there are none.
    """
    source = Path(source)
    files = [source] if source.is_file() else sorted(source.rglob("*.npz"))
    if not files:
        raise FileNotFoundError(f"There are no .npz files at {source}.")
    return files


def read_npz(path: str | Path, vector_keys: Sequence[str] = (POSE,)) -> tuple[Episode, StoreHeader]:
    """One trajectory, and the header of a store of such.

    Args:
        path: a file with `image` (T+1, H, W, C) uint8, `action` (T+1, A) one-hot, `reward` (T+1,), and what the vectors
            need; `terminal` (T+1,) and `reset` (T+1,) are understood.
        vector_keys: what becomes the frames' vectors, in this order: names of arrays (T+1, ...), flattened per row, or
            "pose", (x / n, y / n, cos, sin) from `agent_pos`, `agent_dir` and the side n of `maze_layout`.

    Raises:
        ValueError: if the file cannot be read, lacks an array, or holds something else.
    """
    arrays = _arrays(Path(path), vector_keys)
    _check(path, arrays)
    vectors = {key: _vector(path, arrays, key) for key in vector_keys}
    image, action, reward = arrays["image"], arrays["action"], arrays["reward"]
    terminated = "terminal" in arrays and bool(arrays["terminal"][-1])
    episode = Episode(
        frames=image,
        actions=action[1:].argmax(1).astype(np.int64),
        rewards=reward[1:].astype(np.float32),
        terminated=terminated,
        truncated=not terminated,
        vectors=np.concatenate(list(vectors.values()), axis=1).astype(np.float32) if vectors else None,
    )
    header = StoreHeader(
        frame_shape=image.shape[1:],
        action_space=space_to_json(Discrete(action.shape[1])),
        vector_keys={key: vector.shape[1] for key, vector in vectors.items()},
        policy=POLICY,
    )
    return episode, header


def open_npz(source: str | Path, options: ImportOptions) -> Recording:
    """The trajectories at `source`, in the order of their names.

    Raises:
        FileNotFoundError: if there are no files.
        ValueError: if the first one cannot be used.
    """
    files = npz_files(source)
    vector_keys = (POSE,) if options.vector is None else options.vector
    header = read_npz(files[0], vector_keys)[1]
    about = (f"Actions: {space_sentence(space_from_json(header.action_space))}",)
    return Recording(header, len(files), partial(_episodes, files, vector_keys, header), about)


def import_npz(
    source: str | Path,
    out: str | Path,
    vector_keys: Sequence[str] = (POSE,),
    on_episode: Callable[[Episode], None] | None = None,
    shard_episodes: int = 256,
) -> EpisodeStore:
    """Fill the store at `out` with the trajectories at `source`, in the order of their names.

    What the store holds already is kept. It must be the first of these files, as it is after an interruption or an
    error; the others follow.

    Args:
        source: a folder of NPZ files, or one file.
        out: folder of the store, made if missing.
        vector_keys: see `read_npz`.
        on_episode: called after each imported episode.
        shard_episodes: episodes per shard.

    Returns:
        The store.

    Raises:
        FileNotFoundError: if there are no files.
        FileExistsError: if the store holds other episodes.
        ValueError: if a file cannot be used; those before it are in the store.
    """
    recording = open_npz(source, ImportOptions(vector=tuple(vector_keys)))
    return append_recording(recording, source, out, on_episode, shard_episodes)


def _episodes(files: Sequence[Path], vector_keys: Sequence[str], header: StoreHeader, first: int) -> Iterator[Episode]:
    """Trajectories of one kind, from the one of number `first` on."""
    for file in files[first:]:
        episode, own = read_npz(file, vector_keys)
        for name in ("frame_shape", "action_space", "vector_keys"):
            if getattr(own, name) != getattr(header, name):
                raise ValueError(
                    f"{file} does not fit the files before it: its {name} is {getattr(own, name)}, not "
                    f"{getattr(header, name)}; import it into another store."
                )
        yield episode


def _arrays(path: Path, vector_keys: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of a file that an episode needs, and those of `OPTIONAL` that it has."""
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    needed = [*NEEDED, *(key for key in vector_keys if key != POSE), *(POSE_PARTS if POSE in vector_keys else ())]
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no NPZ archive, or was cut off")
        archive = np.load(path, allow_pickle=False)
        with archive:
            missing = [k for k in needed if k not in archive]
            if missing:
                raise ValueError(f"it has no {', '.join(missing)}, only {', '.join(archive) or 'nothing'}")
            return {k: archive[k] for k in [*needed, *OPTIONAL] if k in archive}
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as a trajectory: {error}.") from error


def _check(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Raise ValueError unless the arrays are those of one trajectory."""
    image, action, reward = arrays["image"], arrays["action"], arrays["reward"]
    rows = len(reward) if reward.ndim == 1 else 0
    _require(path, rows >= 2, f"reward must be (T+1,) with T at least 1, got {reward.shape}")
    is_image = image.dtype == np.uint8 and image.ndim == 4
    _require(path, is_image, f"image must be (T+1, H, W, C) uint8, got {image.shape} {image.dtype}")
    for name, array in arrays.items():
        _require(path, array.dtype.kind in "biuf", f"{name} must be numbers, got {array.dtype}")
        has_rows = array.ndim > 0 and len(array) == rows
        _require(path, has_rows, f"{name} must have {rows} rows like reward, got {array.shape}")
    one_hot = action.ndim == 2 and bool(((action[1:] != 0).sum(1) == 1).all() and (action[1:].sum(1) == 1).all())
    _require(path, one_hot, f"action must be (T+1, A) one-hot after its first row, got {action.shape} {action.dtype}")
    is_one = "reset" not in arrays or not arrays["reset"][1:].any()
    _require(path, is_one, "reset is true in its middle, so it holds several")


def _vector(path: str | Path, arrays: dict[str, np.ndarray], key: str) -> np.ndarray:
    """What a key adds to the frames' vectors, (T+1, V)."""
    if key != POSE:
        return arrays[key].reshape(len(arrays[key]), -1)
    position, direction, layout = (arrays[name] for name in POSE_PARTS)
    is_pose = position.shape == direction.shape == (len(arrays["reward"]), 2)
    _require(path, is_pose, "agent_pos and agent_dir must be (T+1, 2)")
    return np.concatenate([position / layout.shape[-1], direction], axis=1)


def _require(path: str | Path, good: bool, what: str) -> None:
    if not good:
        raise ValueError(f"{path} is not a trajectory: {what}.")
