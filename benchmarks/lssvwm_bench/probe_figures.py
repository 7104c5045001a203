"""What probes found, as a table, curves and a video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lssvwm_bench.figures import markdown_table, new_figure, picture_stride, side_by_side, with_error
from lssvwm_rl.measures.probe import HIDDEN, POSE, PRIVILEGED, ProbeReport, hidden_values
from lssvwm_rl.measures.trial import Trial
from lssvwm_rl.pictures import MIN_HEIGHT

GAP = 4  # pixels
PALETTE = np.array([(220, 40, 40), (40, 190, 60), (50, 80, 230), (170, 50, 200), (235, 215, 40), (40, 210, 220)])


def probe_table(rows: Sequence[dict[str, Any]], fit_worlds: int, test_worlds: int, steps: int) -> str:
    """Markdown, with a caption that says what was averaged."""
    head = ["read from", "probe", "walls (share of cells right)", "objects (mean distance in cells)"]
    lines = [
        [
            f"`{row['features']}`" if row["probe"] else "nothing",
            row["probe"] or "constant",
            with_error(row["accuracy"], row["accuracy_error"], 3),
            with_error(row["distance"], row["distance_error"]),
        ]
        for row in rows
    ]
    caption = (
        f"Means ± standard errors over {test_worlds} test worlds, of the frames after the first half of {steps} steps; "
        f"probes are fitted on {fit_worlds} other worlds. `{POSE}`, the agent's position and direction, tells what "
        f"needs no memory of the maze; `{PRIVILEGED}`, these with layout and objects, is the ceiling."
    )
    return f"{markdown_table(head, lines)}\n\n{caption}"


def probe_plot(rows: Sequence[dict[str, Any]]) -> Figure:
    """Two panels: walls and objects over time in the episode."""
    figure, panels = new_figure(2)
    names = list(dict.fromkeys(row["features"] for row in rows))
    for row in rows:
        color = {"constant": "0.8", POSE: "0.5", PRIVILEGED: "black"}.get(
            row["features"], f"C{names.index(row['features']) - 1}"
        )
        style = "--" if row["probe"] == "linear" else "-"
        frames = [point["frame"] for point in row["over_time"]]
        for axes, what in zip(panels, ("accuracy", "distance"), strict=True):
            label = f"{row['features']} {row['probe']}".strip()
            width = 1.5 if row["probe"] else 5  # the constant often lies below others
            axes.plot(frames, [p[what] for p in row["over_time"]], style, color=color, linewidth=width, label=label)
    panels[0].set(title="walls: share of cells right", xlabel="frame")
    panels[1].set(title="objects: mean distance (cells)", xlabel="frame", ylim=(0, None))
    panels[0].legend(fontsize=8)
    return figure


def probe_video(trial: Trial, report: ProbeReport) -> np.ndarray:
    """The agent's view, the true map, and the map that the probe reads: (T', H, 3 H + 8, 3) uint8 of every few frames.

    On the map that is read, cells are the brighter the likelier they are floor; objects are shown where they would be
    from the agent's true place.
    """
    layout, targets, position, direction = (hidden_values(trial, key) for key in HIDDEN)
    across = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    read = position[:, None] + report.objects[..., :1] * direction[:, None] + report.objects[..., 1:] * across[:, None]
    pictures = []
    for t in range(0, len(layout), picture_stride(len(layout))):
        true = draw_layout(layout[t].astype(np.float32), targets[t], position[t], direction[t])
        guess = draw_layout(report.layout[t], read[t], position[t], direction[t])
        frame, height = trial.episode.frames[t], len(true)
        rows, columns = (np.arange(height) * size // height for size in frame.shape[:2])
        view = np.broadcast_to(frame[rows][:, columns, :3], true.shape)
        pictures.append(side_by_side([view, true, guess], axis=1, gap=GAP))
    return np.stack(pictures)


def draw_layout(floor: np.ndarray, objects: np.ndarray, position: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """A map, (H, H, 3) uint8.

    Args:
        floor: (n, n) float32 in [0, 1], 0 dark, 1 bright; rows are y.
        objects: (K, 2), x and y in cells.
        position, direction: (2,), of the agent.
    """
    n = len(floor)
    cell = 2 * math.ceil(MIN_HEIGHT / (2 * n))  # even, as video codecs need it
    shade = (60 + 170 * floor).astype(np.uint8).repeat(cell, axis=0).repeat(cell, axis=1)
    image = np.stack([shade] * 3, axis=2)
    x, y = np.meshgrid(*[(np.arange(n * cell) + 0.5) / cell] * 2)
    for k, (u, v) in enumerate(objects):
        image[np.hypot(x - u, y - v) < 0.3] = PALETTE[k % len(PALETTE)]
    for distance, radius in ((0.0, 0.25), (0.3, 0.12)):
        u, v = position + distance * direction
        image[np.hypot(x - u, y - v) < radius] = 20
    return image
