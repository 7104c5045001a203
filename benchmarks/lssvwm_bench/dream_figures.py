"""Tables, plots and pictures of dreams beside reality."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lssvwm_bench.dream_trials import FREE_RUNNING
from lssvwm_bench.figures import NONE, PREDICTOR, markdown_table, new_figure, predictor_cells, side_by_side
from lssvwm_rl.measures.baselines import COPY, ORACLE
from lssvwm_rl.measures.psnr import EXACT
from lssvwm_rl.measures.revisit import NAMES
from lssvwm_rl.measures.trial import Trial
from lssvwm_rl.pictures import enlarge, frame_strip

SHOWN_CONTEXT = 64  # real frames at most that a video begins with
STRIP_FRAMES = 8
STRIP_HEIGHT = 96  # pixels of a frame at least
GAP = 2  # pixels
MEASURES = (("psnr", "PSNR (dB)"), ("ssim", "SSIM"))
BASELINE_COLORS = {COPY: "grey", ORACLE: "black"}


def dream_tables(results: Mapping[str, Any]) -> str:
    """Markdown of what `compare_dreams` gives: means and classes of pixels, then PSNR by time since last sight."""
    rows, seen = results["rows"], results["reach"] is not None
    head = [*PREDICTOR, "mode", "PSNR", "SSIM", *(NAMES.values() if seen else ())]
    cells = []
    for row in rows:
        means = [_decibels(row["psnr"]), f"{row['ssim']:.3f}"]
        classes = [_decibels(row["classes"][name]["psnr"]) for name in NAMES.values()] if seen else []
        cells.append([*predictor_cells(row), row["mode"], *means, *classes])
    tables = [markdown_table(head, cells)]
    if seen:
        tables += [
            f"PSNR in dB. Window: last seen less than {results['reach']} frames ago, of a dream before the end of the "
            "context; memory: earlier.",
            *_age_table(rows),
        ]
    return "\n\n".join(tables)


def _age_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """PSNR by age and a caption; nothing if no pixel was seen before."""
    # Of a dream only the context's frames count as seen, so its ages reach further.
    bins = max((row["ages"] for row in rows), key=len)
    if not bins:
        return []
    ages = [f"{b['from']}" if b["from"] == b["to"] else f"{b['from']}–{b['to']}" for b in bins]
    cells = [[row["predictor"], row["mode"], *(_decibels(b["psnr"]) for b in row["ages"])] for row in rows]
    counts = {row["mode"]: [f"{b['pixels']:,}" for b in row["ages"]] for row in rows}
    cells += [["pixels", mode, *counted] for mode, counted in counts.items()]
    cells = [[*line, *[NONE] * (len(ages) + 2 - len(line))] for line in cells]
    caption = "PSNR in dB by the frames that have passed since what a pixel shows was last in view."
    return [markdown_table(["predictor", "mode", *ages], cells), caption]


def dream_plot(results: Mapping[str, Any]) -> Figure:
    """PSNR and SSIM against the time since last sight, where that is known, and against the time since the context;
    dashed where free-running."""
    rows = results["rows"]
    by_age = results["reach"] is not None and bool(rows[0]["ages"])
    figure, panels = new_figure(4 if by_age else 2)
    names = [row["predictor"] for row in rows if row["predictor"] not in BASELINE_COLORS]
    colors = {**{name: f"C{i}" for i, name in enumerate(dict.fromkeys(names))}, **BASELINE_COLORS}
    for n, panel in enumerate(panels):
        measure, title = MEASURES[n % 2]
        against_age = by_age and n < 2
        for row in rows:
            x, y = _by_age(row, measure) if against_age else _by_time(row, measure)
            style: dict[str, Any] = {"color": colors[row["predictor"]]}
            style["linestyle"] = "--" if row["mode"] == FREE_RUNNING else "-"
            style |= {"marker": "o", "markersize": 3} if against_age else {}
            panel.plot(x, y, label=f"{row['predictor']}, {row['mode']}", linewidth=1.2, **style)
        panel.set(title=title, xlabel="frames since last sight" if against_age else "frames since the context")
        if against_age:
            panel.set_xscale("log", base=2)
            panel.xaxis.set_major_formatter("{x:g}")
    figure.legend(*panels[-1].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    return figure


def _by_time(row: Mapping[str, Any], measure: str) -> tuple[Sequence[float], Sequence[float]]:
    """Frames since the context, and the measure where it is not exact."""
    exact = np.array(row["frames"]["psnr"]) >= EXACT
    if row["predictor"] == ORACLE and row["mode"] != FREE_RUNNING:
        exact[:] = True  # nearly, over all pixels, and it would make all else one line
    return range(1, len(exact) + 1), np.where(exact, np.nan, row["frames"][measure]).tolist()


def _by_age(row: Mapping[str, Any], measure: str) -> tuple[Sequence[float], Sequence[float]]:
    """Middles of the bins of ages, and the measure where it is not exact."""
    shown = [b for b in row["ages"] if b["pixels"] and b["psnr"] < EXACT]
    return [(b["from"] * b["to"]) ** 0.5 for b in shown], [b[measure] for b in shown]


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
        rows.append(side_by_side(columns, axis=2, gap=GAP))
    return side_by_side(rows, axis=1, gap=GAP)


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


def _decibels(value: float | None) -> str:
    return NONE if value is None else "exact" if value == EXACT else f"{value:.2f}"
