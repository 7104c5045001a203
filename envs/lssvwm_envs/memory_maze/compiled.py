"""Compiled functions, kept for later processes in a folder whose name has a hash of all sources here.

numba compares a kept function with the size and date of its own file only, but constants and functions of other files
are compiled in: with what was kept yesterday, a step of today's `kinematics` would still be as long as yesterday's. The
processor and the versions of Python and numba are part of what numba compares.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from lssvwm_rl.native.build import BuildError
from lssvwm_rl.native.build import cache_folder as native_folder

SETTINGS: Any = numba.config
SOURCES = Path(__file__).parent
PREFIX = "maze-"  # begins the names of folders of compiled code


def compiled(function: Callable[..., Any]) -> Any:
    """`numba.njit`, kept in the `cache_folder`; where there can be none, it is compiled by every process anew."""
    folder = cache_folder()
    if folder is None:
        return numba.njit(function)
    before = SETTINGS.CACHE_DIR
    try:
        SETTINGS.CACHE_DIR = str(folder)  # which numba looks at when a function is decorated
        return numba.njit(cache=True)(function)
    finally:
        SETTINGS.CACHE_DIR = before


@functools.cache
def cache_folder() -> Path | None:
    """Where the functions of these sources are kept: in NUMBA_CACHE_DIR, beside the sources, or in the user's cache."""
    name = f"{PREFIX}{source_hash(SOURCES)}"
    beside = SOURCES / "__pycache__"
    candidates = [Path(SETTINGS.CACHE_DIR)] if SETTINGS.CACHE_DIR else [beside]
    with contextlib.suppress(BuildError):  # there is no home folder
        candidates.append(native_folder().with_name("numba"))
    for parent in candidates:
        with contextlib.suppress(OSError):
            (parent / name).mkdir(parents=True, exist_ok=True)
            if os.access(parent / name, os.W_OK):
                if parent == beside:
                    _remove_others(parent, name)
                return parent / name
    return None


def source_hash(folder: Path) -> str:
    """Of the names and contents of all Python files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _remove_others(parent: Path, name: str) -> None:
    """Remove code of other sources, also what earlier versions kept beside them."""
    for path in parent.glob(f"{PREFIX}*"):
        if path.name != name:
            shutil.rmtree(path, ignore_errors=True)
    for path in [*parent.glob("*.nbi"), *parent.glob("*.nbc")]:
        with contextlib.suppress(OSError):
            path.unlink()
