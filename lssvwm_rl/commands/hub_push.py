"""`lssvwm hub push`: share a world model on the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import tyro

EXAMPLE = "lssvwm hub push runs/model owner/model --private"


@dataclass(frozen=True)
class HubPush:
    """Upload a checkpoint, with weights in half precision, a model card and its pictures, as one commit."""

    checkpoint: Annotated[str, tyro.conf.Positional]
    """Run folder, or packaged name."""
    model: Annotated[str, tyro.conf.Positional]
    """owner/name on the hub; made if there is none."""
    private: bool = False
    """Whether only its owner may see it."""
    license: str = "mit"
    """Of the model, as the hub names it, for example apache-2.0."""
    dry_run: Path | None = None
    """New folder for what would be uploaded; nothing is."""


def main(args: HubPush) -> None:
    """Write the card, and upload.

    Raises:
        FileExistsError: if the folder of the dry run exists.
        FileNotFoundError, ValueError: if there is no such checkpoint, or it cannot be shared.
        PermissionError, ConnectionError: if the hub refuses, or cannot be reached.
    """
    from lssvwm_rl.model.hub import client
    from lssvwm_rl.progress import finish, progress_bar
    from lssvwm_rl.training.hub_push import push, shared_folder

    if args.dry_run is not None:
        names = shared_folder(args.checkpoint, args.model, args.dry_run, args.license)
        finish(
            f"{len(names)} files written to {args.dry_run}; without --dry-run they become the newest commit of "
            f"{args.model}."
        )
        return
    with TemporaryDirectory() as temporary, progress_bar(f"Pushing {args.checkpoint}") as bar:
        client(args.model).utils.disable_progress_bars()
        bar(0, 3, "writing the card")
        names = shared_folder(args.checkpoint, args.model, Path(temporary) / "model", args.license)
        url = push(Path(temporary) / "model", args.model, args.private, lambda done, _, note: bar(done + 1, 3, note))
    finish(f"{len(names)} files are at {url}; use it as hub:{args.model.removeprefix('hub:')}.")
