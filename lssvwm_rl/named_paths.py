"""Whether a file that is missing is one that the user named: else it is a bug, which keeps its traceback."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def is_of(error: OSError, words: Sequence[str]) -> bool:
    """Whether what an error misses is a path among a command's words, or a folder above one.

    What is missing inside of a named folder that is there was looked for by this package.

    Args:
        words: of the command line; of `--option=value` the value counts.
    """
    try:
        folder = Path.cwd()
    except FileNotFoundError:  # the user has removed it
        return True
    if not isinstance(error.filename, str | os.PathLike):
        return False
    missing = _first_missing(folder / error.filename)
    named = [folder / (word.partition("=")[2] if word.startswith("-") else word) for word in words]
    return missing is not None and any(missing in (path, *path.parents) for path in map(_plain, named))


def _first_missing(path: Path) -> Path | None:
    """The outermost part of a path that is not there, None if all are."""
    path = _plain(path)
    gone = [each for each in (path, *path.parents) if not each.exists()]
    return gone[-1] if gone else None


def _plain(path: Path) -> Path:
    return Path(os.path.normpath(path))
