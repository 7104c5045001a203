"""MemoryMaze: a fast native version of the Memory Maze task (Pasukonis et al. 2022, arXiv 2210.13383)."""

from __future__ import annotations

import contextlib
from pathlib import Path


def _forget_stale_code(folder: Path) -> None:
    """Remove numba's cached functions that are older than one of the sources in `folder`.

    numba compares a cached function with its own file only, but constants and functions of the others are compiled in:
    with the cache of yesterday, a step of today's `kinematics` would still be as long as yesterday's.
    """
    newest = max(source.stat().st_mtime for source in folder.glob("*.py"))
    for index in (folder / "__pycache__").glob("*.nbi"):
        with contextlib.suppress(OSError):  # another process was faster, or nothing may be written here
            if index.stat().st_mtime < newest:
                index.unlink()


_forget_stale_code(Path(__file__).parent)
