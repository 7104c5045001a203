"""Dream for a thousand frames and measure the drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lssvwm_bench.bench import Findings, bench
from lssvwm_bench.dream_figures import dream_video
from lssvwm_bench.dream_settings import DreamSettings, play
from lssvwm_bench.dream_trials import FREE_RUNNING, DreamTrials
from lssvwm_bench.figures import PREDICTOR, markdown_table, new_figure, predictor_cells
from lssvwm_bench.lineup import described
from lssvwm_envs.explorers import explorer_named
from lssvwm_rl.measures.drift import CHUNK, chunk_distances
from lssvwm_rl.measures.trial import Trial
from lssvwm_rl.model.predict import predict_frames
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.progress import Say, progress_bar

EXAMPLE = "lssvwm bench long --checkpoints maze-memory"
GROUPS = 4  # columns of the table per measure
FLOOR = "real, other half"
MEASURES = {"color": "colour", "gradient": "gradient"}


@bench("long")
@dataclass(frozen=True)
class LongBench(DreamSettings):
    """Dream for a thousand frames, and measure how far colours and edges drift from real ones: do frames dreamt a
    thousand steps on still look like real ones?"""

    trials: int = 8
    """Worlds of the test split that are played, at least 2."""
    steps: int = 1_000
    """Dreamt frames."""

    def run(self, say: Say) -> Findings:
        """See `measure_drift`."""
        config = DreamTrials(self.context, (FREE_RUNNING,), self.denoise_steps, self.batch)
        played = play(self, explorer_named(self.policy or "explore"), self.steps, say)
        results, dreams = measure_drift(played.lineup.models, played.trials, config, say)
        video = dream_video(played.trials, dreams, self.context)
        return Findings(results, drift_table(results), drift_plot(results), video, settings=played.settings)


def measure_drift(
    models: Mapping[str, WorldModel],
    trials: Sequence[Trial],
    config: DreamTrials,
    say: Say = lambda _: None,
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
    real = np.stack([trial.episode.frames[config.context :] for trial in trials])
    rows: list[dict[str, Any]] = []
    dreams = {}
    for name, model in models.items():
        say(f"{name}: dreaming {real.shape[1]} frames")
        episodes = [trial.episode for trial in trials]
        with progress_bar("dream", "frames") as bar:
            dreamt = predict_frames(model, episodes, config.context, True, config.denoise_steps, config.batch, bar)
        rows.append({**described(name, model), **chunk_distances(dreamt, real)})
        dreams[name] = dreamt[:1].copy()
    rows.append({**described(FLOOR), **chunk_distances(real[::2], real[1::2])})
    chunks = [[start + 1, min(start + CHUNK, real.shape[1])] for start in range(0, real.shape[1], CHUNK)]
    return {"chunks": chunks, "rows": rows}, dreams


def drift_table(results: Mapping[str, Any]) -> str:
    """Markdown, the chunks' means in up to `GROUPS` groups."""
    chunks = results["chunks"]
    groups = np.array_split(np.arange(len(chunks)), min(GROUPS, len(chunks)))
    spans = [f"{chunks[g[0]][0]}–{chunks[g[-1]][1]}" for g in groups]
    head = [*PREDICTOR, *(f"{MEASURES[m]} {span}" for m in MEASURES for span in spans)]
    cells = [
        predictor_cells(row) + [f"{np.mean([row[m][k] for k in g]):.3f}" for m in MEASURES for g in groups]
        for row in results["rows"]
    ]
    note = "Total variation distance (0 equal, 1 disjoint) between histograms of dreamt and of real frames, by step."
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
