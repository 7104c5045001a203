"""Long dreams: do frames dreamt a thousand steps on still have the colours and edges of real ones?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lssvwm_bench.lineup import condition
from lssvwm_bench.results import markdown_table, new_figure
from lssvwm_rl.measures.drift import CHUNK, chunk_distances
from lssvwm_rl.measures.trial import Trial
from lssvwm_rl.model.predict import predict_frames
from lssvwm_rl.model.world_model import WorldModel

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
