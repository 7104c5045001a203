"""The scale of doubt: which share of a checkpoint's held-out frames it dreams with less doubt than a given one.

`Imagined.doubt` is in units of the model's own embedding. On the scale it is a quantile: 0 is as sure as of the surest
held-out frame, 1 as doubtful as of the most doubtful one or more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lssvwm_rl.checked_text import read_checked, write_checked
from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.store import Episode, EpisodeStore
from lssvwm_rl.model.checkpoint_files import DOUBT, resolve_checkpoint
from lssvwm_rl.model.checkpoints import check_fits, load_contexts
from lssvwm_rl.model.engine import Engine, engine_of
from lssvwm_rl.model.outputs import Imagined
from lssvwm_rl.model.predict import OBSERVED
from lssvwm_rl.model.world_model import WorldModel

FORMAT_VERSION = 1
LEVELS = 101  # quantiles 0, 0.01, ..., 1
FRAMES, DREAMS = 4096, 512  # observed and dreamt at most, or nearly so: a measurement takes seconds


@dataclass(frozen=True)
class DoubtScale:
    """Quantiles of doubt, of one model and one number of denoising passes."""

    quantiles: Tensor
    """(101,) float64, rising."""
    denoise_steps: int

    def __call__(self, doubt: Tensor) -> Tensor:
        """Doubts of any shape as quantiles in [0, 1], float32; between two levels linear."""
        levels = self.quantiles.to(doubt)
        below = (torch.searchsorted(levels, doubt.contiguous(), right=True) - 1).clamp(0, LEVELS - 2)
        low, high = levels[below], levels[below + 1]
        share = torch.where(doubt >= high, 1.0, torch.where(doubt <= low, 0.0, (doubt - low) / (high - low)))
        return ((below + share) / (LEVELS - 1)).float()

    def to(self, device: torch.device | str) -> DoubtScale:
        """On another device."""
        return DoubtScale(self.quantiles.to(device), self.denoise_steps)


def measure_scale(model: WorldModel | Engine, episodes: EpisodeStore, denoise_steps: int = 4) -> DoubtScale:
    """The scale by one-step dreams that follow the real frames of episodes, see `dreams_after_real`.

    Args:
        episodes: that the model was not trained on; vectors of frames are predicted, as in dreams.
        denoise_steps: network passes per frame, at least 2.

    Raises:
        ValueError: for fewer passes, or if no episode has a step.
    """
    if denoise_steps < 2:
        raise ValueError(f"With {denoise_steps} denoise_steps there is no doubt to measure; use at least 2.")
    doubts = [each.dreamt.doubt for each in dreams_after_real(model, episodes, denoise_steps)]
    return _scale_of(torch.cat(doubts).cpu().double().numpy(), denoise_steps)


class AfterReal(NamedTuple):
    """Dreamt steps of n episodes at one time, beside what was there."""

    before: Tensor
    """(n, H, W, C) uint8, the last real frames that were observed."""
    real: Tensor
    """(n, H, W, C) uint8, those that followed."""
    dreamt: Imagined
    """What was dreamt instead."""


def dreams_after_real(
    model: WorldModel | Engine, episodes: EpisodeStore, denoise_steps: int = 4
) -> Iterator[AfterReal]:
    """One-step dreams that follow the real frames of episodes, time by time.

    At most about 4096 frames of evenly chosen episodes are observed, and 512 frames, evenly chosen of these, are dreamt
    from all real frames before. Noise is seeded by the row, so the same model and episodes give the same dreams.

    Args:
        episodes: vectors of frames are predicted, as in dreams.
        denoise_steps: network passes per frame.

    Raises:
        ValueError: if no episode has a step.
    """
    if not len(episodes) or not episodes.lengths.any():
        raise ValueError(f"{episodes.path} has no steps to measure doubt with; collect episodes.")
    engine, chosen = engine_of(model), _chosen(episodes)
    whole, batch = engine.model, clip_batch(chosen, max(len(e.frames) for e in chosen))
    batch = batch.to(whole.device)
    vectors = batch.vectors if whole.config.vector_size else None
    generators = [torch.Generator(whole.device).manual_seed(row) for row in range(len(chosen))]
    stride = max(1, round(sum(len(e) for e in chosen) / DREAMS))
    memory, seen = whole.initial_memory(len(chosen)), 0
    for t in range(1, batch.mask.shape[1], stride):
        while seen < t:
            chunk = slice(seen, min(t, seen + OBSERVED))
            told = None if vectors is None else vectors[:, chunk]
            memory, _ = engine.observe(memory, batch.frames[:, chunk], batch.actions[:, chunk], told)
            seen = chunk.stop
        rows = batch.mask[:, t].nonzero()[:, 0]
        noise = [generators[row] for row in rows.tolist()]
        dreamt = engine.imagine(memory.select(rows), batch.actions[rows, t], noise, denoise_steps)
        yield AfterReal(batch.frames[rows, t - 1], batch.frames[rows, t], dreamt)


def write_scale(folder: Path, model: WorldModel) -> None:
    """Measure a checkpoint's scale with 4 passes and keep it beside the weights, in doubt.json.

    Nothing is written for a checkpoint that has no held-out steps.

    Args:
        folder: a checkpoint's.
        model: the same, with the weights in the folder.
    """
    scale = _measured(folder, model, 4)
    if scale is not None:
        values = {"denoise_steps": scale.denoise_steps, "quantiles": scale.quantiles.tolist()}
        write_checked(folder / DOUBT, json.dumps({"format_version": FORMAT_VERSION, **values}, indent=1))


def load_scale(checkpoint: str | Path, model: WorldModel, denoise_steps: int = 4) -> DoubtScale | None:
    """A checkpoint's scale: read if it was kept for so many passes, else measured on its held-out episodes, in seconds.

    Returns:
        None with one pass, and for a checkpoint that has neither a scale nor held-out episodes to measure it with.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if its doubt.json is broken.
    """
    if denoise_steps < 2:
        return None
    folder = resolve_checkpoint(checkpoint)
    kept = _read(folder / DOUBT) if (folder / DOUBT).is_file() else None
    return kept if kept is not None and kept.denoise_steps == denoise_steps else _measured(folder, model, denoise_steps)


def _measured(folder: Path, model: WorldModel, denoise_steps: int) -> DoubtScale | None:
    try:
        contexts = load_contexts(folder)
        check_fits(model.config, contexts.header.frame_shape, contexts.header.action_space, "The context store")
    except ValueError:  # which is said to those who begin dreams in them
        return None
    if not contexts.lengths.any() or contexts.header.vector_size < model.config.vector_size:
        return None
    return measure_scale(model, contexts, denoise_steps)


def _chosen(store: EpisodeStore) -> list[Episode]:
    """Every k-th episode, with the least k that leaves no more than `FRAMES`."""
    frames = np.minimum(store.lengths + 1, FRAMES)
    moving = np.flatnonzero(store.lengths)
    every = next((k for k in range(1, len(moving)) if frames[moving[::k]].sum() <= FRAMES), len(moving))
    return [store.read(i, 0, int(frames[i])) for i in moving[::every].tolist()]


def _scale_of(doubts: np.ndarray, denoise_steps: int) -> DoubtScale:
    quantiles = np.quantile(doubts, np.linspace(0, 1, LEVELS))
    # Interpolation can round to less than the level before.
    return DoubtScale(torch.from_numpy(np.maximum.accumulate(quantiles)), denoise_steps)


def _read(path: Path) -> DoubtScale:
    try:
        kept = json.loads(read_checked(path))
        if kept["format_version"] != FORMAT_VERSION:
            raise ValueError(f"its format is not version {FORMAT_VERSION}")
        steps, quantiles = int(kept["denoise_steps"]), torch.tensor(kept["quantiles"], dtype=torch.float64)
        if quantiles.shape != (LEVELS,) or not quantiles.isfinite().all() or (quantiles.diff() < 0).any():
            raise ValueError(f"its quantiles are not {LEVELS} rising numbers")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is broken ({error}); remove it, and doubt is measured anew on the checkpoint's episodes."
        ) from error
    return DoubtScale(quantiles, steps)
