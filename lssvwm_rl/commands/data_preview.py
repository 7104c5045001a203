"""`lssvwm data preview`: pictures of a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

EXAMPLE = "lssvwm data preview runs/data --out preview"


@dataclass(frozen=True)
class DataPreview:
    """Write a contact sheet of a store's episodes, and a video of some of them."""

    store: Annotated[Path, tyro.conf.Positional]
    """Folder of the store, or a URL such as s3://bucket/store."""
    out: Path
    """New folder for contact.png and episodes.mp4."""
    episodes: int = 8
    """Episodes on the sheet, from all of the store; the first three are in the video."""


def main(args: DataPreview) -> None:
    """Write the pictures.

    Raises:
        FileExistsError: if there is something at `out`.
        ValueError: if there is no store, or it is empty or broken, or no episode is asked for.
    """
    from lssvwm_rl.data.preview import write_preview
    from lssvwm_rl.data.remote import local_folder
    from lssvwm_rl.data.store import EpisodeStore
    from lssvwm_rl.progress import finish, progress_bar

    with progress_bar(str(args.store), "episodes") as progress:
        shown = write_preview(EpisodeStore(args.store), local_folder(args.out), args.episodes, progress)
    finish(
        f"contact.png with a row for each of the episodes {', '.join(map(str, shown))}, and episodes.mp4 written to "
        f"{args.out}; open them."
    )
