"""Text files with a checksum beside them: `checksums.json` of a folder has the SHA-256 of what was written there.

So a changed file is named. Of files that it does not name, as in folders of earlier versions, nothing is known.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from lssvwm_rl.files import write_text

CHECKSUMS = "checksums.json"


def write_checked(path: Path, text: str) -> None:
    """Write a text file, whole or not at all, and then its checksum; wherever that ends, none is wrong.

    Raises:
        OSError: if it cannot be written.
        ValueError: if the folder's checksums are broken.
    """
    known, digest = _known(path.parent), _digest(text)
    if known.get(path.name) != digest:
        _forget(path)
    write_text(path, text)
    if known.get(path.name) != digest:
        _write(path.parent, {**known, path.name: digest})


def is_checked(path: Path) -> bool:
    """Whether there is a checksum of a file."""
    return path.name in _known(path.parent)


def remove_checked(path: Path) -> None:
    """Remove a file, if it is there, and its checksum.

    Raises:
        ValueError: if the folder's checksums are broken.
    """
    _forget(path)
    path.unlink(missing_ok=True)


def check_texts(folder: Path) -> None:
    """Compare the files that have a checksum with it.

    Raises:
        ValueError: naming one that has changed, or is missing.
    """
    for name, digest in _known(folder).items():
        path = folder / name
        if Path(name).name != name:
            continue
        if not path.is_file():  # without it, what it says would silently be something else, such as a default
            raise ValueError(f"{name} is missing, though it was written: its SHA-256 is in {CHECKSUMS}")
        try:
            same = _digest(path.read_text(encoding="utf-8")) == digest
        except UnicodeDecodeError:
            same = False
        if not same:
            raise ValueError(f"{name} has changed since it was written: its SHA-256 in {CHECKSUMS} is another")


def _known(folder: Path) -> dict[str, str]:
    path = folder / CHECKSUMS
    if not path.is_file():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(known, dict):
            raise ValueError("no names")
    except ValueError as error:
        raise ValueError(f"{CHECKSUMS} has changed since it was written ({error})") from error
    return known


def _forget(path: Path) -> None:
    known = _known(path.parent)
    if known.pop(path.name, None) is not None:
        _write(path.parent, known)


def _write(folder: Path, known: dict[str, str]) -> None:
    write_text(folder / CHECKSUMS, json.dumps(known, indent=1, sort_keys=True) + "\n")


def _digest(text: str) -> str:
    """Of a text with any ends of lines, which version control may change."""
    return hashlib.sha256(text.encode()).hexdigest()
