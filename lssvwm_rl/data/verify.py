"""What is damaged in a store: every file of it, where reading would stop at the first."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lssvwm_rl.data.arrays import METADATA, ArrayFile
from lssvwm_rl.data.checksums import changes, unknown_files
from lssvwm_rl.data.episode import HEADER, StoreHeader
from lssvwm_rl.data.remote import AnyPath, RemotePath, place, relative
from lssvwm_rl.data.shards import ARRAYS, Shard, is_checked, missing_shards, shard_numbers, shard_path
from lssvwm_rl.files import LOCK, TEMPORARY, leftovers
from lssvwm_rl.progress import Update


@dataclass(frozen=True)
class Verdict:
    """What `verify_store` found.

    Attributes:
        episodes, shards: that are whole.
        damaged: one line for each file that is missing, broken or changed, or for arrays that do not fit each other.
        notes: one line for each thing beside them that does no harm.
    """

    episodes: int
    shards: int
    damaged: tuple[str, ...]
    notes: tuple[str, ...]


def verify_store(path: str | Path | RemotePath, progress: Update | None = None) -> Verdict:
    """Check all files of a store: headers, checksums, shapes, and every chunk by decompressing it.

    It changes nothing. A shard of a version that wrote no checksums is checked as far as that goes.

    Args:
        progress: called with (shards, all of them).

    Raises:
        ValueError: if there is no store at `path`.
    """
    path = place(path)
    if isinstance(path, RemotePath):
        path.refresh()
    numbers = shard_numbers(path) if path.is_dir() else []
    damaged: list[str] = []
    header = None
    try:
        header = StoreHeader.load(path)
    except ValueError as error:
        if not numbers and not (path / HEADER).exists():
            raise
        what = "cannot be used" if (path / HEADER).exists() else "is missing"
        damaged.append(f"{path / HEADER} {what}: {error.__cause__ or error}")
    notes = list(_beside(path, numbers))
    episodes = whole = 0
    for done, number in enumerate(numbers, 1):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found, count = _check_shard(shard_path(path, number), header)
        damaged += found
        notes += [str(warning.message) for warning in said]
        notes += [f"{shard_path(path, number) / name} is not used." for name in unknown_files(shard_path(path, number))]
        whole, episodes = whole + (not found), episodes + count
        if progress is not None:
            progress(done, len(numbers))
    return Verdict(episodes, whole, tuple(damaged), tuple(notes))


def _check_shard(path: AnyPath, header: StoreHeader | None) -> tuple[list[str], int]:
    """What is damaged, and the number of episodes, 0 if that is not known."""
    found: dict[str, str] = {}  # file -> what is wrong with it
    try:
        checked = is_checked(path)
    except (OSError, ValueError, KeyError, TypeError):
        found[METADATA], checked = "is missing or broken", True
    for name, what in changes(path) if checked else ():
        found.setdefault(name, what)
    for name in ARRAYS:
        if any(file.startswith(f"{name}/") for file in found) or not (path / name).is_dir():
            continue  # named; of the other files of the array, their hashes said enough
        try:
            array = ArrayFile.open(path / name, zeros_left_out=not checked)
        except (ValueError, OSError) as error:
            file, _, what = str(error).partition(" ")
            found[file] = what
            continue
        try:
            array.check()
        except Exception as error:  # decompressors raise many kinds
            found[relative(array.path, path)] = f"is broken ({error})"
    if found or header is None:
        return [f"{path / name} {what}." for name, what in found.items()], 0
    try:
        shard = Shard.open(path, header)
    except ValueError as error:
        return [str(error)], 0
    return [], len(shard.lengths)


def _beside(path: AnyPath, numbers: list[int]) -> Iterator[str]:
    """What lies beside the header and the shards, and shards that are not there."""
    old = leftovers(path) if isinstance(path, Path) else []
    inside: list[AnyPath] = [*path.iterdir()]
    known = {HEADER, LOCK, *(shard_path(path, number).name for number in numbers)}
    for entry in sorted(inside, key=str):
        if entry in old:
            yield f"{entry} was left by a writer that was ended; the next one removes it."
        elif entry.name.startswith(TEMPORARY):
            yield f"{entry} is being written."
        elif entry.name not in known:
            yield f"{entry} is not of the store."
    for shard in missing_shards(path):
        yield f"{shard} is not there; if it was not removed on purpose, it is lost."
