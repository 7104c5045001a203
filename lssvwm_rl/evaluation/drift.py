"""Drift of long dreams: whether frames dreamt a thousand steps on still have the colours and edges of real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lssvwm_rl.evaluation.lineup import condition
from lssvwm_rl.evaluation.predict import predict_frames
from lssvwm_rl.evaluation.results import markdown_table, new_figure
from lssvwm_rl.evaluation.trial import Trial
from lssvwm_rl.world_model import WorldModel

CHUNK = 50  # frames whose histograms are taken together
COLOR_BINS = 16
# Most of an image has no edges, so bins are narrow there.
GRADIENT_EDGES = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
GROUPS = 4  # columns of the table per measure
FLOOR = "real, other half"
MEASURES = {"color": "colour", "gradient": "gradient"}


def measure_drift(
    models: Mapping[str, WorldModel],
    trials: Sequence[Trial],
    context: int,
    denoise_steps: int = 4,
    batch: int = 32,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Dream on from a context with the real actions, and compare histograms with the real frames of the same time.

    Returns:
        JSON values: "chunks", the (first, last) step after the context of every `CHUNK` frames, and "rows", with
        "predictor", "kind", "condition", and lists "color" and "gradient", the distance in each chunk, 0 to 1. The last
        row is the distance of real frames from real ones, of every second trial from the others: trials in other
        worlds differ by that much.
        And per model the dream of the first trial (1, F, H, W, C) uint8.

    Raises:
        ValueError: if there are fewer than two trials.
    """
    if len(trials) < 2:
        raise ValueError(f"The noise floor compares halves of the trials; play at least 2, not {len(trials)}.")
    real = np.stack([trial.episode.frames[context:] for trial in trials])
    rows: list[dict[str, Any]] = []
    dreams = {}
    for name, model in models.items():
        say(f"{name}: dreaming {real.shape[1]} frames")
        dreamt = predict_frames(model, [t.episode for t in trials], context, True, denoise_steps, batch)
        about = {"predictor": name, "kind": model.config.backbone.kind, "condition": condition(model)}
        rows.append({**about, **chunk_distances(dreamt, real)})
        dreams[name] = dreamt[:1].copy()
    rows.append({"predictor": FLOOR, "kind": None, "condition": None, **chunk_distances(real[::2], real[1::2])})
    chunks = [[start + 1, min(start + CHUNK, real.shape[1])] for start in range(0, real.shape[1], CHUNK)]
    return {"chunks": chunks, "rows": rows}, dreams


def chunk_distances(a: np.ndarray, b: np.ndarray) -> dict[str, list[float]]:
    """Distances of the histograms of frames (N, F, H, W, C) and (M, F, H, W, C) uint8, chunk after chunk of `CHUNK`
    frames: "color", of 16 bins per channel, and "gradient", of the magnitude of brightness steps."""
    chunks = [slice(start, start + CHUNK) for start in range(0, a.shape[1], CHUNK)]
    histograms = {"color": color_histogram, "gradient": gradient_histogram}
    return {
        name: [total_variation(histogram(a[:, chunk]), histogram(b[:, chunk])) for chunk in chunks]
        for name, histogram in histograms.items()
    }


def color_histogram(frames: np.ndarray) -> np.ndarray:
    """Share of every channel's pixels in `COLOR_BINS` equal bins: frames (..., C) uint8 -> (C, bins)."""
    C = frames.shape[-1]
    bins = (frames.reshape(-1, C) // (256 // COLOR_BINS)).astype(np.int64)
    counts = np.bincount((bins + COLOR_BINS * np.arange(C)).ravel(), minlength=C * COLOR_BINS)
    return counts.reshape(C, COLOR_BINS) / len(bins)


def gradient_histogram(frames: np.ndarray) -> np.ndarray:
    """Share of pixels by how much brightness changes to the next, right and down: (..., H, W, C) uint8 -> (1, bins)."""
    counts = np.zeros(len(GRADIENT_EDGES) - 1)
    for part in frames.reshape(-1, *frames.shape[-4:]):  # of so many float images a part at a time
        grey = part.mean(axis=-1, dtype=np.float32)
        across = np.diff(grey, axis=-1)[..., :-1, :]
        down = np.diff(grey, axis=-2)[..., :-1]
        counts += np.histogram(np.hypot(across, down), GRADIENT_EDGES)[0]
    return (counts / counts.sum())[None]


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Half the sum of differences between distributions (C, bins), the mean over C: 0 alike, 1 disjoint."""
    return float(np.abs(p - q).sum(axis=-1).mean() / 2)


def drift_table(results: Mapping[str, Any]) -> str:
    """Markdown, the chunks' means in up to `GROUPS` groups."""
    chunks = results["chunks"]
    groups = np.array_split(np.arange(len(chunks)), min(GROUPS, len(chunks)))
    spans = [f"{chunks[g[0]][0]}–{chunks[g[-1]][1]}" for g in groups]
    head = ["predictor", "kind", "given", *(f"{MEASURES[m]} {span}" for m in MEASURES for span in spans)]
    cells = [
        [
            row["predictor"],
            row["kind"] or "–",
            row["condition"] or "–",
            *(f"{np.mean([row[m][k] for k in g]):.3f}" for m in MEASURES for g in groups),
        ]
        for row in results["rows"]
    ]
    note = "Total variation distance (0 alike, 1 disjoint) between histograms of dreamt and of real frames, by step."
    return "\n\n".join([markdown_table(head, cells), note])


def drift_plot(results: Mapping[str, Any]) -> Figure:
    """Both distances over time."""
    figure, panels = new_figure(len(MEASURES))
    middle = [sum(chunk) / 2 for chunk in results["chunks"]]
    for panel, measure in zip(panels, MEASURES, strict=True):
        for row in results["rows"]:
            style = {"color": "black", "linestyle": "--"} if row["predictor"] == FLOOR else {}
            panel.plot(middle, row[measure], label=row["predictor"], marker="." if len(middle) == 1 else "", **style)
        panel.set(title=f"distance of {MEASURES[measure]} histograms", xlabel="frames since the context")
        panel.set_ylim(bottom=0)
    panels[0].legend(fontsize=8)
    return figure
