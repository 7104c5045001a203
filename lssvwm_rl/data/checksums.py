"""What a folder of files held when it was written: the size and the hash of each file.

Zarr says nothing of a file that is missing (it stands for zeros), but chunks have checksums of their own. So sizes, and
hashes of the metadata, are quick to compare however much data there is, and with them reading notices every change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lssvwm_rl.data.remote import AnyPath, relative, size_of

FILE = "checksums.json"
METADATA = "zarr.json"


def write_checksums(folder: Path) -> None:
    """Write down what the folder holds now."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    found: dict[str, dict[str, Any]] = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _hash(path.read_bytes())}
        for path in paths
    }
    found[FILE] = {"sha256": _hash(_text(found))}  # of itself: what is said of all others
    (folder / FILE).write_bytes(_text(found))


def check_checksums(folder: AnyPath) -> None:
    """Compare the folder with what `write_checksums` wrote down.

    Raises:
        ValueError: naming the first file that is missing or has changed.
    """
    for name, what in changes(folder, whole=False):
        raise ValueError(f"{name} {what}")


def changes(folder: AnyPath, whole: bool = True) -> Iterator[tuple[str, str]]:
    """Each file that is missing or has changed since `write_checksums`, and which of it.

    Args:
        whole: compare the hashes of all files, not only of metadata.
    """
    try:
        known = json.loads((folder / FILE).read_text())
        itself = known.pop(FILE, None)  # which versions before did not write
        if itself is not None and itself["sha256"] != _hash(_text(known)):
            raise ValueError("it has changed")
        checked = {str(name): (int(about["bytes"]), about.get("sha256")) for name, about in known.items()}
    except FileNotFoundError:
        yield FILE, "is missing"
        return
    except (ValueError, TypeError, KeyError, AttributeError):
        yield FILE, "has changed"
        return
    for name, (size, digest) in checked.items():
        file = folder / name
        hashed = whole or file.name == METADATA
        found = size_of(file)
        if found is None:
            yield name, "is missing"
        elif found != size or (hashed and digest is not None and _hash(file.read_bytes()) != digest):
            yield name, "has changed"


def unknown_files(folder: AnyPath) -> list[str]:
    """Files that were not there when `write_checksums` was called, or of which the checksums are gone."""
    try:
        known = set(json.loads((folder / FILE).read_text())) | {FILE}
    except (OSError, ValueError, TypeError):
        return []
    found = (relative(path, folder) for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name not in known)


def _text(about: dict[str, dict[str, Any]]) -> bytes:
    return json.dumps(about, indent=1).encode()


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
