"""What tables, plots and videos of benches have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lssvwm_rl.files import written_whole

NONE = "–"  # a cell without a value
MAX_PICTURES = 250  # frames of a video


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of a Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def with_error(mean: float, error: float, digits: int = 2) -> str:
    """A cell: a mean and its standard error."""
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


PREDICTOR = ["predictor", "kind", "given"]
"""Head of `predictor_cells`."""


def predictor_cells(row: Mapping[str, Any]) -> list[str]:
    """Cells that say what predicted: its name, kind and condition (see `lineup.described`)."""
    return [row["predictor"], row["kind"] or NONE, row["condition"] or NONE]


def new_figure(columns: int, height: float = 3.6, width: float = 4.5) -> tuple[Figure, np.ndarray]:
    """A figure that needs no display with panels side by side, each of that size in inches, and its axes (columns,)."""
    figure = Figure(figsize=(width * columns, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def write_figure(path: str | Path, figure: Figure) -> None:
    """Write a png, whole or not at all."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def side_by_side(parts: Sequence[np.ndarray], axis: int, gap: int) -> np.ndarray:
    """uint8 arrays, joined along an axis with `gap` white pixels between."""
    shape = list(parts[0].shape)
    shape[axis] = gap
    spaced = [part for block in parts for part in (np.full(shape, 255, np.uint8), block)]
    return np.concatenate(spaced[1:], axis=axis)


def picture_stride(frames: int) -> int:
    """Every how many-th of so many frames makes a video of at most `MAX_PICTURES`."""
    return math.ceil(frames / MAX_PICTURES)
