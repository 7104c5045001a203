"""What a folder of files held when it was written: the size of each file, and the hash of those of metadata.

Zarr says nothing of a file that is missing (it stands for zeros), but checks the bytes of those that it reads. So this
is quick, however much data there is, and together they notice every change.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

FILE = "checksums.json"
METADATA = "zarr.json"


def write_checksums(folder: Path) -> None:
    """Write down what the folder holds now."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    (folder / FILE).write_text(json.dumps({p.relative_to(folder).as_posix(): _about(p) for p in paths}, indent=1))


def check_checksums(folder: Path) -> None:
    """Compare the folder with what `write_checksums` wrote down.

    Raises:
        ValueError: naming the file that is missing or has changed.
    """
    path = folder / FILE
    try:
        known = dict(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise ValueError(f"{FILE} is missing") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{FILE} has changed") from error
    for name, about in known.items():
        file = folder / name
        if not file.is_file():
            raise ValueError(f"{name} is missing")
        if _about(file) != about:
            raise ValueError(f"{name} has changed")


def _about(path: Path) -> dict[str, Any]:
    about: dict[str, Any] = {"bytes": path.stat().st_size}
    if path.name == METADATA:
        about["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return about
