"""`lssvwm export`: a checkpoint to share, without the trainer's state and with weights in half precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lssvwm_rl.progress import finish

EXAMPLE = "lssvwm export --checkpoint runs/model --out runs/small"


@dataclass(frozen=True)
class Export:
    """Copy a checkpoint to a new folder that is a quarter of the size or less."""

    checkpoint: Path
    """Run folder."""
    out: Path
    """New folder."""


def main(args: Export) -> None:
    """Copy.

    Raises:
        FileExistsError: if `out` exists.
        FileNotFoundError: if there is no checkpoint.
    """
    from lssvwm_rl.training.run_folder import export

    export(args.checkpoint, args.out)
    size = sum(p.stat().st_size for p in args.out.rglob("*") if p.is_file())
    finish(f"{size / 2**20:.1f} MB written to {args.out}.", ["lssvwm", "dream", "--checkpoint", args.out])
