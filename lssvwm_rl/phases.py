"""Long work in phases: what a phase found is kept, so that the same command goes on where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from lssvwm_rl.files import write_text

FOLDER = "phases"


def claim(
    out: Path,
    settings: Mapping[str, Any],
    what: str,
    may_change: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Make the folder of some work, or check that it is a folder of the same work.

    Args:
        out: the folder; its `config.json` holds the settings.
        settings: JSON values.
        what: name of the work, for the error.
        may_change: settings that the same work may go on with when they have changed.
        defaults: of settings that a folder of an older version does not name.

    Raises:
        ValueError: if `out` holds other things, or the same work with other settings.
    """
    path = out / "config.json"
    text = json.dumps(dict(settings), indent=2)
    if path.is_file():
        found = {**flat_settings(json.loads(json.dumps(dict(defaults or {})))), **flat_settings(_read(path, what))}
        ours = flat_settings(json.loads(text))
        changed = [n for n in {**ours, **found} if n not in may_change and ours.get(n) != found.get(n)]
        if changed:
            name = changed[0]
            raise ValueError(
                f"{out} holds a {what} with {name} {found.get(name)}, not {ours.get(name)}; repeat its command, choose "
                "another --out or remove it."
            )
    elif out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty and not a {what}; choose another --out.")
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def find_phase(out: Path, name: str) -> dict[str, Any] | None:
    """What a phase found, None if it has not been run."""
    path = out / FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def run_phase(out: Path, name: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a phase finds, or has found: JSON values. One that was interrupted runs again and has to expect its own
    leftovers."""
    found = find_phase(out, name)
    if found is None:
        found = run()
        write_text(out / FOLDER / f"{name}.json", json.dumps(found, indent=2) + "\n")
    return found


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings in nested dicts as one dict, whose names have dots between the levels."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= flat_settings(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _read(path: Path, what: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is broken ({error}); choose another --out.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not the settings of a {what}; choose another --out.")
    return found
