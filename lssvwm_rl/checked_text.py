"""Text files with a checksum: `checksums.json` of a folder has the SHA-256 of what was written there and below.

So a text that changed or vanished is named by who reads it. Of files that it does not name, as in folders of earlier
versions, nothing is known. Whether `checksums.json` itself has to be there is known from other files (`needed`): from
weights that have a checksum in themselves, and from settings that name their format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

from lssvwm_rl.files import CHECKSUMS, write_text

TABLES = ".csv"  # read by people; whoever leaves them out, as downloads of a model do, loses no number of it


def write_checked(path: Path, text: str, folder: Path | None = None, grows: bool = False) -> None:
    """Write a text file, whole or not at all, and its checksum.

    While it is replaced both its old and its new text have one, so wherever that ends, none is wrong or missing.

    Args:
        folder: whose `checksums.json` has it, above the file; that of the file by default.
        grows: more may be appended to it later.

    Raises:
        OSError: if it cannot be written.
        ValueError: if the folder's checksums are broken.
    """
    folder, name = _place(path, folder)
    known, now = _known(folder), _sum_of(text, grows)
    if known.get(name) != now:
        before = _allowed(known[name]) if name in known else [None]
        _write(folder, {**known, name: [*(each for each in before if each != now), now]})
    write_text(path, text)
    if known.get(name) != now:
        _write(folder, {**known, name: now})


def note_growth(path: Path) -> None:
    """Have the checksum of a text that grows cover all that there is of it by now."""
    _write(path.parent, {**_known(path.parent), path.name: _sum_of(path.read_text(encoding="utf-8"), True)})


def is_checked(path: Path) -> bool:
    """Whether there is a checksum of a file."""
    return path.name in _known(path.parent)


def remove_checked(path: Path) -> None:
    """Remove a file, if it is there, and its checksum.

    Raises:
        ValueError: if the folder's checksums are broken.
    """
    known = _known(path.parent)
    if known.pop(path.name, None) is not None:
        _write(path.parent, known)
    path.unlink(missing_ok=True)


def read_checked(path: Path, folder: Path | None = None) -> str:
    """A text, compared with its checksum if it has one.

    Args:
        folder: see `write_checked`.

    Raises:
        FileNotFoundError: if there is no such file and never was one.
        ValueError: if it has changed or is missing, or is no text.
    """
    folder, name = _place(path, folder)
    known = _known(folder)
    try:
        if name in known:
            _check(folder, name, known[name])
        return path.read_text(encoding="utf-8")
    except ValueError as error:
        what = f"{name} is no text" if isinstance(error, UnicodeDecodeError) else error
        raise ValueError(
            f"{what} ({folder}); put it back, or remove its line from {CHECKSUMS} if you mean it."
        ) from error


def check_texts(folder: Path, needed: Collection[str] = ()) -> None:
    """Compare the files that have a checksum with it, all but tables.

    Args:
        needed: files that have to have one.

    Raises:
        ValueError: naming one that has changed, or is missing.
    """
    known = _known(folder)
    for name in needed:
        if name not in known:
            what = f"does not name {name}" if (folder / CHECKSUMS).is_file() else "is missing"
            raise ValueError(f"{CHECKSUMS} {what}, though it was written")
    for name, found in known.items():
        if not name.endswith(TABLES) and _is_below(name):
            _check(folder, name, found)


def _check(folder: Path, name: str, found: Any) -> None:
    """Raise ValueError unless a file is one of those that were written, or may be missing and is."""
    path, allowed = folder / name, _allowed(found)
    if not path.is_file():
        if None in allowed:
            return
        # Without it, what it says would silently be something else, such as a default.
        raise ValueError(f"{name} is missing, though it was written: its SHA-256 is in {CHECKSUMS}")
    try:
        text = path.read_text(encoding="utf-8")
        same = any(each is not None and _is_sum_of(text, each) for each in allowed)
    except UnicodeDecodeError:
        same = False
    if not same:
        raise ValueError(f"{name} has changed since it was written: its SHA-256 in {CHECKSUMS} is another")


def _place(path: Path, folder: Path | None) -> tuple[Path, str]:
    folder = path.parent if folder is None else folder
    return folder, path.relative_to(folder).as_posix()


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name


def _allowed(found: Any) -> list[Any]:
    """All that a file may be: one sum, or those before and after a change that was perhaps interrupted."""
    return found if isinstance(found, list) else [found]


def _sum_of(text: str, grows: bool) -> Any:
    """SHA-256 of a text with any ends of lines, which version control may change; of one that grows with its length."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    digest = hashlib.sha256(plain.encode()).hexdigest()
    return {"characters": len(plain), "sha256": digest} if grows else digest


def _is_sum_of(text: str, found: Any) -> bool:
    """Whether a text, as read from a file, has a sum; one that grows, at its beginning."""
    if not isinstance(found, dict):
        return bool(_sum_of(text, False) == found)
    count = found.get("characters")
    return isinstance(count, int) and count >= 0 and bool(_sum_of(text[:count], True) == found)


def _known(folder: Path) -> dict[str, Any]:
    path = folder / CHECKSUMS
    if not path.is_file():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(known, dict):
            raise ValueError("no names")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{CHECKSUMS} has changed since it was written ({error})") from error
    return known


def _write(folder: Path, known: dict[str, Any]) -> None:
    write_text(folder / CHECKSUMS, json.dumps(known, indent=1, sort_keys=True) + "\n")
