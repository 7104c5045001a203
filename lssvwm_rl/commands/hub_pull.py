"""`lssvwm hub pull`: a world model of the Hugging Face hub as a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

EXAMPLE = "lssvwm hub pull owner/model --out runs/model"


@dataclass(frozen=True)
class HubPull:
    """Download one commit of a model, compare every file with its hash, and leave out whatever could run."""

    model: Annotated[str, tyro.conf.Positional]
    """owner/name, or owner/name@revision with a branch, a tag or a commit."""
    out: Path
    """New folder."""


def main(args: HubPull) -> None:
    """Download.

    Raises:
        FileExistsError: if `out` exists.
        FileNotFoundError: if there is no such model or revision, or it is no checkpoint.
        ValueError: if a file is not what the hub says that it is, or names code.
        PermissionError, ConnectionError: if the hub refuses, or cannot be reached.
    """
    from lssvwm_rl.model.checkpoints import shown_by
    from lssvwm_rl.model.hub import client
    from lssvwm_rl.model.hub_pull import HUB_FILE, pull
    from lssvwm_rl.progress import finish, progress_bar

    client(args.model).utils.disable_progress_bars()
    with progress_bar(f"Pulling {args.model}") as bar:
        commit = pull(args.model, args.out, bar)
    finish(f"{args.model} as of commit {commit[:8]} ({HUB_FILE}) written to {args.out}.", shown_by(args.out))
