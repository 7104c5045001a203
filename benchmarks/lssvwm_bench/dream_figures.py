"""Tables, plots and pictures of dreams beside reality."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lssvwm_bench.dream_trials import FREE_RUNNING
from lssvwm_bench.results import markdown_table, new_figure
from lssvwm_rl.measures.baselines import COPY, ORACLE
from lssvwm_rl.measures.psnr import EXACT
from lssvwm_rl.measures.revisit import NAMES
from lssvwm_rl.measures.trial import Trial
from lssvwm_rl.pictures import enlarge, frame_strip

NONE = "–"
SHOWN_CONTEXT = 64  # real frames at most that a video begins with
STRIP_FRAMES = 8
STRIP_HEIGHT = 96  # pixels of a frame at least
GAP = 2  # pixels
BASELINE_COLORS = {COPY: "grey", ORACLE: "black"}


def dream_tables(results: Mapping[str, Any]) -> str:
    """Markdown of what `compare_dreams` gives: means and classes of pixels, then PSNR by time since last sight."""
    rows = results["rows"]
    head, cells = ["predictor", "kind", "given", "mode", "PSNR", "SSIM"], []
    for row in rows:
        about = [row["predictor"], row["kind"] or NONE, row["condition"] or NONE, row["mode"]]
        cells.append([*about, _decibels(row["psnr"]), f"{row['ssim']:.3f}"])
    if results["reach"] is None:
        return markdown_table(head, cells)
    for row, line in zip(rows, cells, strict=True):
        line += [_decibels(row["classes"][name]["psnr"]) for name in NAMES.values()]
    tables = [
        markdown_table([*head, *NAMES.values()], cells),
        f"PSNR in dB. Window: last seen less than {results['reach']} frames ago, of a dream before the end of the "
        "context; memory: earlier.",
    ]
    # Of a dream only the context's frames count as seen, so its ages reach further.
    bins = max((row["ages"] for row in rows), key=len)
    if bins:
        ages = [f"{b['from']}" if b["from"] == b["to"] else f"{b['from']}–{b['to']}" for b in bins]
        by_age = [[row["predictor"], row["mode"], *(_decibels(b["psnr"]) for b in row["ages"])] for row in rows]
        counts = {row["mode"]: [f"{b['pixels']:,}" for b in row["ages"]] for row in rows}
        by_age += [["pixels", mode, *cells] for mode, cells in counts.items()]
        by_age = [[*line, *[NONE] * (len(ages) + 2 - len(line))] for line in by_age]
        tables += [
            markdown_table(["predictor", "mode", *ages], by_age),
            "PSNR in dB by the frames that have passed since what a pixel shows was last in view.",
        ]
    return "\n\n".join(tables)


def dream_plot(results: Mapping[str, Any]) -> Figure:
    """PSNR and SSIM against the time since last sight, where that is known, and against the time since the context;
    dashed where free-running."""
    by_age = results["reach"] is not None and bool(results["rows"][0]["ages"])
    figure, panels = new_figure(4 if by_age else 2)
    names = [row["predictor"] for row in results["rows"] if row["predictor"] not in BASELINE_COLORS]
    colors = {**{name: f"C{i}" for i, name in enumerate(dict.fromkeys(names))}, **BASELINE_COLORS}
    for row in results["rows"]:
        free = row["mode"] == FREE_RUNNING
        style = {"color": colors[row["predictor"]], "linestyle": "--" if free else "-", "linewidth": 1.2}
        label = f"{row['predictor']}, {row['mode']}"
        for panel, measure in zip(panels[-2:], ("psnr", "ssim"), strict=True):
            psnrs = np.array(row["frames"]["psnr"])
            # The teacher-forced oracle is nearly exact over all pixels, and would make all else one line.
            hidden = row["predictor"] == ORACLE and not free
            values = np.where((psnrs < EXACT) & (not hidden), row["frames"][measure], np.nan)
            panel.plot(range(1, len(values) + 1), values, label=label, **style)
        for panel, measure in zip(panels[:-2], ("psnr", "ssim"), strict=False):
            shown = [b for b in row["ages"] if b["pixels"] and b["psnr"] < EXACT]
            middle = [(b["from"] * b["to"]) ** 0.5 for b in shown]
            panel.plot(middle, [b[measure] for b in shown], marker="o", markersize=3, **style)
    for panel, title in zip(panels[-2:], ("PSNR (dB)", "SSIM"), strict=True):
        panel.set(title=title, xlabel="frames since the context")
    for panel, title in zip(panels[:-2], ("PSNR (dB)", "SSIM"), strict=False):
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set(title=title, xlabel="frames since last sight")
    figure.legend(*panels[-1].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    return figure


def dream_video(trials: Sequence[Trial], dreams: Mapping[str, np.ndarray], context: int) -> np.ndarray:
    """A row per trial: real | every model's dream, after the end of the context, which all show (T, H', W', C) uint8.

    Args:
        trials: those of the dreams, at least.
        dreams: per model (n, F, H, W, C).
        context: real frames that were observed, of which the last `SHOWN_CONTEXT` are shown.
    """
    start = max(0, context - SHOWN_CONTEXT)
    rows = []
    for i in range(min(len(d) for d in dreams.values())):
        frames = trials[i].episode.frames
        columns = [frames[start:], *(np.concatenate([frames[start:context], d[i]]) for d in dreams.values())]
        rows.append(_side_by_side(columns, axis=2))
    return _side_by_side(rows, axis=1)


def dream_strip(trials: Sequence[Trial], dreams: Mapping[str, np.ndarray], context: int) -> np.ndarray:
    """For each trial a row of real frames, spread over the time after the context, and one for each model: an image
    (H', W', 3) uint8."""
    count = min(len(d) for d in dreams.values())
    dreamt = next(iter(dreams.values())).shape[1]
    chosen = np.unique(np.linspace(0, dreamt - 1, min(STRIP_FRAMES, dreamt)).round().astype(int))
    rows = [
        frames[chosen]
        for i in range(count)
        for frames in (trials[i].episode.frames[context:], *(d[i] for d in dreams.values()))
    ]
    shown = np.concatenate(rows)
    factor = math.ceil(STRIP_HEIGHT / shown.shape[1])
    shown = shown.repeat(factor, axis=1).repeat(factor, axis=2)
    return enlarge(frame_strip(shown, len(chosen), GAP)[None])[0]


def _side_by_side(parts: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Frames (T, H, W, C) with white gaps between."""
    shape = list(parts[0].shape)
    shape[axis] = GAP
    spaced = [part for block in parts for part in (np.full(shape, 255, np.uint8), block)]
    return np.concatenate(spaced[1:], axis=axis)


def _decibels(value: float | None) -> str:
    return NONE if value is None else "exact" if value == EXACT else f"{value:.2f}"
