"""`lssvwm data export`: a store as a data set of Minari."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

import tyro

EXAMPLE = "lssvwm data export runs/data --id rooms/walks-v0"


@dataclass(frozen=True)
class DataExport:
    """Write a store as a Minari data set, without loss: arrays, spaces, seeds, and how the environment is made."""

    store: Annotated[Path, tyro.conf.Positional]
    """Folder of the store, or a URL such as s3://bucket/store."""
    id: str
    """Id of the data set, name-v0 or group/name-v0."""
    format: Literal["minari"] = "minari"
    """Format to write."""
    out: Path | None = None
    """Folder of data sets, in which it gets one by its id; without it Minari's own."""


def main(args: DataExport) -> None:
    """Export.

    Raises:
        FileExistsError: if there is such a data set.
        ValueError: if there is no store, or it is empty or broken, or the id is none.
        gymnasium.error.DependencyNotInstalled: without Minari.
    """
    from lssvwm_rl.data.exporters.minari import export_minari
    from lssvwm_rl.data.importers.minari import datasets_folder
    from lssvwm_rl.data.remote import local_folder
    from lssvwm_rl.data.store import EpisodeStore
    from lssvwm_rl.progress import finish, progress_bar

    store = EpisodeStore(args.store)
    numbers = count(1)
    with progress_bar(str(args.store), "episodes") as progress:
        folder = datasets_folder() if args.out is None else local_folder(args.out)
        target = export_minari(store, args.id, folder, lambda _: progress(next(numbers), len(store)))
    where = "" if args.out is None else f", with MINARI_DATASETS_PATH={args.out}"
    finish(f"{len(store):,} episodes written to {target}; load them with minari.load_dataset({args.id!r}){where}.")
