"""What every benchmark leaves behind: a folder with NAME.json, NAME.md, NAME.png and, where there are moving pictures,
NAME.mp4."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from lssvwm_rl.pictures import write_video


def check_new_folder(out: Path) -> None:
    """Raise FileExistsError if something is there already: nothing is overwritten, and better said before the work."""
    if out.exists():
        raise FileExistsError(f"{out} exists already; choose another --out or remove it.")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of a Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def write_results(
    out: Path,
    name: str,
    settings: Mapping[str, Any],
    results: Any,
    table: str,
    figure: Figure,
    video: np.ndarray | None = None,
) -> None:
    """Write a new folder.

    Args:
        out: the folder.
        name: of the benchmark.
        settings: JSON values, what was asked for.
        results: JSON values.
        table: Markdown.
        figure: the plot.
        video: (T, H, W, 3) uint8.

    Raises:
        FileExistsError: if the folder exists.
    """
    check_new_folder(out)
    out.mkdir(parents=True)
    machine = {"platform": platform.platform(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
    text = json.dumps({"settings": plain, "machine": machine, "results": results}, indent=2)
    (out / f"{name}.json").write_text(text + "\n")
    (out / f"{name}.md").write_text(table + "\n")
    figure.savefig(out / f"{name}.png", format="png", dpi=120)
    if video is not None:
        write_video(out / f"{name}.mp4", video)


def new_figure(columns: int, height: float = 3.6) -> tuple[Figure, np.ndarray]:
    """A figure with panels side by side that needs no display, and its axes (columns,)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = Figure(figsize=(4.5 * columns, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes
