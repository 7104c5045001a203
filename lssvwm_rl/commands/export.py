"""`lssvwm export`: a checkpoint to share, as a smaller checkpoint or as ONNX graphs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lssvwm_rl.progress import finish, progress_bar

EXAMPLE = "lssvwm export --checkpoint runs/model --out runs/small"


@dataclass(frozen=True)
class Export:
    """Copy a checkpoint to a new folder that is a quarter of the size or less, or write its dreams as ONNX graphs,
    which run without this library and without PyTorch."""

    checkpoint: str
    """Run folder, packaged name or hub id."""
    out: Path
    """New folder."""
    format: Literal["safetensors", "onnx"] = "safetensors"
    """A checkpoint without the trainer's state and with weights in half precision, or two graphs in single precision:
    one dreams a frame, the other takes in a real one."""
    batch_size: int | None = None
    """Rows that ONNX graphs compute at a time; 1 if not given."""
    denoise_steps: int | None = None
    """Network passes per dreamt frame of ONNX graphs; 4 if not given."""


def main(args: Export) -> None:
    """Write the folder.

    Raises:
        FileExistsError: if `out` exists.
        FileNotFoundError: if there is no checkpoint.
        ValueError: if its weights do not fit the format.
    """
    if args.format == "onnx":
        _onnx(args)
        return
    for option, value in (("--batch-size", args.batch_size), ("--denoise-steps", args.denoise_steps)):
        if value is not None:
            raise ValueError(f"{option} {value} is of ONNX graphs; leave it out, or add --format onnx.")
    from lssvwm_rl.model.checkpoints import shown_by
    from lssvwm_rl.training.run_folder import export

    export(Path(args.checkpoint), args.out)
    finish(f"{_megabytes(args.out)} written to {args.out}.", shown_by(args.out))


def _onnx(args: Export) -> None:
    from lssvwm_rl.model.onnx_export import ABOUT, export_onnx

    batch_size = 1 if args.batch_size is None else args.batch_size
    denoise_steps = 4 if args.denoise_steps is None else args.denoise_steps
    with progress_bar(f"Exporting {args.checkpoint}") as bar:
        found = export_onnx(args.checkpoint, args.out, batch_size, denoise_steps, bar)
    finish(
        f"{_megabytes(args.out)} written to {args.out}, at most {found.grey_levels} grey levels and "
        f"{found.relative:.0e} from PyTorch; run its graphs with onnxruntime as {args.out / ABOUT} says."
    )


def _megabytes(folder: Path) -> str:
    return f"{sum(p.stat().st_size for p in folder.rglob('*') if p.is_file()) / 2**20:.1f} MB"
