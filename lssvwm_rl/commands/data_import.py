"""`lssvwm data import`: make a store of what others have recorded, in one of several formats."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Annotated

import tyro

from lssvwm_rl.data.importers.options import ImportOptions

EXAMPLE = "lssvwm data import recordings --out runs/data"


@dataclass(frozen=True)
class DataImport:
    """Make a store of recorded episodes: videos or folders of images with a table of actions each, a LeRobot data set,
    a Minari data set, or NPZ files of Memory Maze's layout. The store appears once it is whole; of NPZ files, which may
    be many, what is imported is kept, and the same command goes on where it ended."""

    source: Annotated[str, tyro.conf.Positional]
    """Folder or file, or the id of a Minari data set that is on this machine."""
    out: Path
    """Folder of the store."""
    format: Annotated[str | None, tyro.conf.arg(metavar="lerobot|minari|npz|video")] = None
    """Format of the source, which is found out if it is not given."""
    options: Annotated[ImportOptions, tyro.conf.arg(name="")] = field(default_factory=ImportOptions)


def main(args: DataImport) -> None:
    """Import, and say what the actions are.

    Raises:
        FileNotFoundError: if there is nothing to import.
        FileExistsError: if there is something at `out`.
        ValueError: if a file cannot be used.
        gymnasium.error.DependencyNotInstalled: if what reads the format is missing.
    """
    from lssvwm_rl.data.importers.formats import format_of, open_recording
    from lssvwm_rl.data.importers.recording import append_recording, write_recording
    from lssvwm_rl.data.store import EpisodeStore
    from lssvwm_rl.files import check_new
    from lssvwm_rl.progress import finish, progress_bar, say

    name = format_of(args.source, args.format)
    goes_on = name == "npz"
    have = 0
    if goes_on and (args.out / "header.json").exists():
        have = len(EpisodeStore(args.out))
    elif not goes_on:
        check_new(args.out)
    recording = open_recording(args.source, name, args.options)
    say(f"{'; '.join(recording.about)}.")
    numbers = count(have + 1)
    with progress_bar(args.source, "episodes") as progress:
        progress(have, recording.count)

        def show(_: object) -> None:
            progress(next(numbers), recording.count)

        if goes_on:
            store = append_recording(recording, args.source, args.out, show)
        else:
            store = write_recording(recording, args.out, show)
    steps = int(store.lengths.sum())
    without = f" without {recording.left_out}" if recording.left_out else ""
    counts = f"{len(store):,} episodes, {steps:,} steps, {store.lengths.mean():.1f} per episode"
    finish(
        f"{counts}, written to {args.out}{without}; `lssvwm data preview {args.out} --out FOLDER` shows them.",
        ["lssvwm", "train", "--data", args.out, "--out", "runs/model"],
    )
