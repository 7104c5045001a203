"""Long work in phases: what a phase found is kept, so that the same command goes on where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from lssvwm_rl.checked_text import check_texts, read_checked, write_checked
from lssvwm_rl.files import is_unused

SETTINGS, FOLDER = "config.json", "phases"
FORMAT_VERSION = 1  # of the folder; one that says it has checksums of its texts, see `checked_text`


def claim(
    out: Path,
    settings: Mapping[str, Any],
    what: str,
    may_change: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Make the folder of some work, or check that it is a folder of the same work, and whole.

    Args:
        out: the folder; its `config.json` holds the settings.
        settings: JSON values.
        what: name of the work, for the error.
        may_change: settings that the same work may go on with when they have changed.
        defaults: of settings that a folder of an older version does not name.

    Raises:
        ValueError: if `out` holds other things, or the same work with other settings, or a text of it is missing or
            has changed since it was written.
    """
    path = out / SETTINGS
    plain = json.loads(json.dumps(dict(settings)))
    if path.is_file():
        check_unchanged(out, what)
        found = {**flat_settings(json.loads(json.dumps(dict(defaults or {})))), **flat_settings(_read(path, what))}
        ours = flat_settings(plain)
        changed = [n for n in {**ours, **found} if n not in may_change and ours.get(n) != found.get(n)]
        if changed:
            name = changed[0]
            raise ValueError(
                f"{out} holds a {what} with {name} {found.get(name)}, not {ours.get(name)}; repeat its command, choose "
                "another --out or remove it."
            )
    elif not is_unused(out):
        raise ValueError(f"{out} is not empty and not a {what}; choose another --out.")
    # First of all, so that what is interrupted after it is known as this work.
    write_checked(path, json.dumps({"format_version": FORMAT_VERSION, **plain}, indent=2))
    (out / FOLDER).mkdir(exist_ok=True)


def find_phase(out: Path, name: str) -> dict[str, Any] | None:
    """What a phase found, None if it has not been run."""
    path = out / FOLDER / f"{name}.json"
    return json.loads(read_checked(path, out)) if path.is_file() else None


def run_phase(out: Path, name: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a phase finds, or has found: JSON values. One that was interrupted runs again and has to expect its own
    leftovers."""
    found = find_phase(out, name)
    if found is None:
        found = run()
        write_checked(out / FOLDER / f"{name}.json", json.dumps(found, indent=2) + "\n", out)
    return found


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings in nested dicts as one dict, whose names have dots between the levels."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= flat_settings(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def settings_in(text: str) -> dict[str, Any]:
    """The settings that a `SETTINGS` file holds.

    Raises:
        ValueError: if it holds something else.
    """
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return {name: value for name, value in found.items() if name != "format_version"}


def check_unchanged(out: Path, what: str) -> None:
    """Raise ValueError if a text of a folder of some work is missing or has changed since it was written."""
    try:
        dated = "format_version" in json.loads((out / SETTINGS).read_text(encoding="utf-8"))
    except (ValueError, TypeError):  # which its checksum says, or who reads it
        dated = False
    try:
        check_texts(out, (SETTINGS,) if dated else ())
    except ValueError as error:
        raise ValueError(
            f"{out} holds a {what} that is not whole ({error}); put that file back or choose another --out."
        ) from error


def _read(path: Path, what: str) -> dict[str, Any]:
    try:
        return settings_in(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not the settings of a {what} ({error}); choose another --out.") from error
