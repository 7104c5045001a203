"""Predictions of several models on the same trials, after a context: what the protocols retrieval and reasoning measure
(after Po et al. 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lssvwm_bench.lineup import described, shared_reach
from lssvwm_rl.measures.baselines import COPY, ORACLE, copied_frames, oracle_frames
from lssvwm_rl.measures.frame_scores import Revisits, score_frames
from lssvwm_rl.measures.trial import Trial
from lssvwm_rl.model.predict import predict_frames
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.progress import Say, progress_bar

TEACHER_FORCED, FREE_RUNNING = "teacher-forced", "free-running"
SHOWN = 3  # trials whose dreams are kept for pictures


@dataclass(frozen=True)
class DreamTrials:
    """How trials are predicted.

    Attributes:
        context: real frames observed before the first prediction.
        modes: TEACHER_FORCED, every frame from all real frames before it, and FREE_RUNNING, dreamt in one go.
        denoise_steps: network passes per frame.
        batch: trials predicted side by side.
        reach: frames, the own one included, within which a pixel counts as seen in the window; the largest of the
            models' (`lineup.shared_reach`) if None.

    Raises:
        ValueError: for numbers below 1.
    """

    context: int
    modes: tuple[str, ...] = (TEACHER_FORCED, FREE_RUNNING)
    denoise_steps: int = 4
    batch: int = 32
    reach: int | None = None

    def __post_init__(self) -> None:
        numbers = (self.context, self.denoise_steps, self.batch, self.reach if self.reach is not None else 1)
        if min(numbers) < 1:
            raise ValueError(
                f"Context, denoise steps, batch and reach must be at least 1, not {', '.join(map(str, numbers))}."
            )


def compare_dreams(
    models: Mapping[str, WorldModel],
    trials: Sequence[Trial],
    config: DreamTrials,
    say: Say = lambda _: None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Predict all frames after the context with every model, and score them beside what needs no model.

    What counts as seen, or as inside the window, are real frames: while a model dreams freely, those of the context.

    Returns:
        JSON values: "reach" (None where the environment cannot tell surfaces) and "rows", for every mode and predictor
        what `frame_scores.score_frames` gives, with "predictor", "kind", "condition" and "mode".
        And per model the dreams (n, F, H, W, C) uint8 of the first `SHOWN` trials, free-running.
    """
    reach = shared_reach(models.values()) if config.reach is None else config.reach
    real = np.stack([trial.episode.frames[config.context :] for trial in trials])
    rows: list[dict[str, Any]] = []
    dreams = {}
    for mode in config.modes:
        free = mode == FREE_RUNNING
        revisits = Revisits.of(trials, config.context, reach, free)
        for name, model in models.items():
            say(f"{name}: {mode}")
            episodes = [trial.episode for trial in trials]
            with progress_bar(mode, "frames") as bar:
                predicted = predict_frames(
                    model, episodes, config.context, free, config.denoise_steps, config.batch, bar
                )
            rows.append({**described(name, model), "mode": mode, **score_frames(predicted, real, revisits)})
            if free:
                dreams[name] = predicted[:SHOWN].copy()
        baselines = {COPY: copied_frames(trials, config.context, free)}
        if revisits is not None:
            baselines[ORACLE] = oracle_frames(trials, revisits.masks, config.context)
        for name, predicted in baselines.items():
            rows.append({**described(name), "mode": mode, **score_frames(predicted, real, revisits)})
    return {"reach": reach if "classes" in rows[0] else None, "rows": rows}, dreams
