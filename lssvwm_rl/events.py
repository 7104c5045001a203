"""What is written for TensorBoard: scalars, pictures, and settings with results. docs/tensorboard.md lists all tags."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import FileWriter
from torch.utils.tensorboard.summary import hparams, scalar

RESULT = "result/"  # before the names of results: scalars that are known at the end


def write_scalars(events: FileWriter, figures: Mapping[str, float | None], step: int) -> None:
    """Scalars by their tags; None is left out."""
    for tag, value in figures.items():
        if value is not None:
            events.add_summary(scalar(tag, value), step)


def write_picture(events: FileWriter, tag: str, encoded: bytes, size: tuple[int, int], step: int) -> None:
    """A picture of (height, width), as the bytes of a PNG or, where it moves, of a GIF."""
    image = Summary.Image(height=size[0], width=size[1], colorspace=3, encoded_image_string=encoded)
    events.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def write_outcome(out: Path, settings: Mapping[str, Any], results: Mapping[str, float | None], step: int) -> None:
    """The settings of some work with its results, which TensorBoard's HParams tab compares with those of others.

    They are a file of events of their own in the folder, which takes the place of an earlier one.

    Args:
        out: folder of the work.
        settings: flat; what is neither a number nor a truth value is written as text.
        results: by name; None and what is not finite is left out.
        step: at which the work has ended.
    """
    known = {
        name: value if isinstance(value, (bool, int, float, str)) else str(value) for name, value in settings.items()
    }
    found = {f"{RESULT}{name}": v for name, v in results.items() if v is not None and math.isfinite(v)}
    for old in out.glob("events.out.tfevents.*.outcome"):
        old.unlink()
    events = FileWriter(str(out), filename_suffix=".outcome")
    for summary in hparams(known, found):
        events.add_summary(summary)
    write_scalars(events, found, step)
    events.close()
