"""The formats that can be imported, and which one a source is in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lssvwm_rl.data.importers.frames import IMAGES, VIDEOS, visible
from lssvwm_rl.data.importers.lerobot import open_lerobot
from lssvwm_rl.data.importers.lerobot_files import INFO
from lssvwm_rl.data.importers.minari import dataset_folder, open_minari
from lssvwm_rl.data.importers.npz import open_npz
from lssvwm_rl.data.importers.options import ImportOptions
from lssvwm_rl.data.importers.recording import Recording
from lssvwm_rl.data.importers.video import open_videos


@dataclass(frozen=True)
class Format:
    """A format of recordings.

    Attributes:
        open: makes a recording of a source.
        recognises: whether a source looks as if it were in it.
        options: fields of `ImportOptions` that it has.
    """

    open: Callable[[str | Path, ImportOptions], Recording]
    recognises: Callable[[Path], bool]
    options: tuple[str, ...]


def _holds(source: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether a source is a file of that kind, or a folder with one somewhere in it."""
    if source.is_file():
        return source.suffix.lower() in suffixes
    return source.is_dir() and any(path.suffix.lower() in suffixes for path in visible(source))


def _is_lerobot(source: Path) -> bool:
    """Also one whose `meta` is missing, so that this is what is said."""
    return (source / INFO).is_file() or any((source / "data").glob("chunk-*/*.parquet"))


def _is_minari(source: Path) -> bool:
    return dataset_folder(source) is not None


FORMATS = {
    "lerobot": Format(open_lerobot, _is_lerobot, ("resize", "image", "vector", "action_column", "actions")),
    "minari": Format(open_minari, _is_minari, ("resize", "image", "vector")),
    "npz": Format(open_npz, lambda source: _holds(source, (".npz",)), ("vector",)),
    "video": Format(
        open_videos,
        # LeRobot's videos are in folders, too.
        lambda source: not _is_lerobot(source) and _holds(source, (*VIDEOS, *IMAGES)),
        ("resize", "vector", "action_column", "actions", "rows"),
    ),
}
"""By name. To add one: a file with a function `(source, options) -> Recording`, and a row here."""


def format_of(source: str | Path, name: str | None = None) -> str:
    """The name of a source's format.

    Args:
        name: if it is known.

    Raises:
        FileNotFoundError: if there is nothing to import.
        ValueError: for an unknown name, or if there is no telling which format it is.
    """
    if name is not None:
        if name not in FORMATS:
            raise ValueError(f"Format {name!r} is unknown; use one of {', '.join(FORMATS)}.")
        return name
    found = [name for name, format in FORMATS.items() if format.recognises(Path(source))]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{source} may be {' or '.join(found)}; say which one with --format.")
    if not Path(source).exists():
        raise FileNotFoundError(
            f"There is nothing at {source}, and no Minari data set of that name is here; correct it."
        )
    raise FileNotFoundError(
        f"{source} holds nothing that can be imported: no {', '.join(VIDEOS)} or images, no .npz, and no LeRobot or "
        "Minari data set; name another one."
    )


def open_recording(source: str | Path, name: str, options: ImportOptions) -> Recording:
    """A recording of the source in the format of that name.

    Raises:
        FileNotFoundError: if there is none.
        gymnasium.error.DependencyNotInstalled: if what reads the format is missing.
        ValueError: if it cannot be used, or an option is given that the format does not have.
    """
    check_options(name, options)
    return FORMATS[name].open(source, options)


def check_options(name: str, options: ImportOptions) -> None:
    """Raise ValueError if an option is given that a format does not have."""
    for field in dataclasses.fields(options):
        if field.name not in FORMATS[name].options and getattr(options, field.name) != field.default:
            raise ValueError(f"--{field.name.replace('_', '-')} is not for the format {name}; leave it out.")
