"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield where to write a file or a folder; it becomes `path` when the block ends, and vanishes if the block fails.

    A file replaces an older one of that name. Parent folders are made.

    Raises:
        OSError: if `path` is a folder that holds something.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")
    remove(temporary)  # of a process that was killed
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        remove(temporary)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text)


def check_new(path: str | Path) -> None:
    """Raise FileExistsError if something is there already: nothing is overwritten, and better said before the work."""
    if Path(path).exists():
        raise FileExistsError(f"{path} exists already; choose another --out or remove it.")


def leftovers(folder: str | Path) -> list[Path]:
    """What writers that were killed left in a folder."""
    return list(Path(folder).glob(".tmp-*"))


def remove(path: Path) -> None:
    """Remove a file or a folder with all it holds, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
