"""What a report measures: a checkpoint on the held-out episodes that come with it, in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.measures.calibration import Calibration, calibrate
from lssvwm_rl.measures.memory_check import FRAMES, MemoryCheck, window_of
from lssvwm_rl.measures.memory_formed import MemoryFormed
from lssvwm_rl.measures.rollouts import FreeRunning
from lssvwm_rl.model.checkpoint_files import WEIGHTS
from lssvwm_rl.model.checkpoints import check_fits, load_contexts, load_world_model
from lssvwm_rl.model.config import attention_reach
from lssvwm_rl.model.engine import Engine, engine_of
from lssvwm_rl.progress import Update, progress_bar

STEPS, SHOWN = 56, 3  # frames of a dream, and dreams shown
LEAST = 4  # dreams of a point of a curve
NORM_FRAMES = 128


@dataclass(frozen=True)
class Dreams:
    """Free-running dreams after the first frames of held-out episodes, with the real actions."""

    context: int
    """Real frames before."""
    over_time: list[tuple[int, float, float]]
    """(steps since the context, PSNR in dB of dreams, of the context's last frame), of at least `LEAST` episodes."""
    vectors: bool
    """Whether the real vectors of the frames were given, as to every model that has some."""
    shown: list[np.ndarray]
    """Real on the left, dreamt on the right, context first: (T, H, 2W, C) uint8."""


@dataclass(frozen=True)
class Norms:
    """How large the states of blocks are while an episode is observed."""

    names: list[str]
    """R rows, blocks of the layers."""
    values: np.ndarray
    """(R, T) float32 in [0, 1]: r / (1 + r), with r the root mean square of a block's state."""


@dataclass(frozen=True)
class Measured:
    """What was found out about a checkpoint; None for what it lacks, with the sentence `missing`."""

    parameters: int
    memory_bytes: int
    """Of one row after no frame."""
    weight_bytes: int
    """Of the file of weights."""
    episodes: int = 0
    memory: MemoryFormed | None = None
    doubt: Calibration | None = None
    dreams: Dreams | None = None
    norms: Norms | None = None
    missing: str = ""


def measure(world: Path) -> Measured:
    """Measure the checkpoint of a run, with a progress bar.

    Raises:
        FileNotFoundError: if it has none yet.
        ValueError: if it is broken.
    """
    model = load_world_model(world)
    engine = engine_of(model)
    size: dict[str, Any] = {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "memory_bytes": model.initial_memory(1).nbytes,
        "weight_bytes": (world / WEIGHTS).stat().st_size,
    }
    try:
        contexts = load_contexts(world)
        check_fits(model.config, contexts.header.frame_shape, contexts.header.action_space, "The context store")
        if contexts.header.vector_size < model.config.vector_size:
            raise ValueError("Its held-out episodes lack the vectors that the model takes; collect them with --vector.")
        if not contexts.lengths.any():
            raise ValueError("Its held-out episodes have no steps; collect longer ones.")
        with torch.no_grad(), progress_bar("Measuring") as bar:
            found = _on_held_out(engine, contexts, bar)
    except ValueError as error:
        return Measured(**size, missing=" ".join(str(error).split()))
    return Measured(**size, episodes=len(contexts), **found)


def _on_held_out(engine: Engine, contexts: EpisodeStore, bar: Update) -> dict[str, Any]:
    bar(0, 4, "memory")
    found: dict[str, Any] = {"memory": remembered(engine, contexts)}
    bar(1, 4, "doubt")
    found["doubt"] = calibrate(engine, contexts)
    bar(2, 4, "dreams")
    found["dreams"] = dreamt(engine, contexts)
    bar(3, 4, "states")
    found["norms"] = block_norms(engine, contexts)
    bar(4, 4)
    return found


def remembered(engine: Engine, contexts: EpisodeStore) -> MemoryFormed:
    """What memory adds on held-out episodes that are longer than the window."""
    backbone = engine.model.config.backbone
    window = window_of(backbone)
    # What grows with the history costs the square of it.
    most = FRAMES if attention_reach(backbone) is not None else 4 * window + NORM_FRAMES
    return MemoryCheck([episode.cut(0, min(most, len(episode.frames))) for episode in contexts], window).measure(engine)


def dreamt(engine: Engine, contexts: EpisodeStore) -> Dreams:
    """Dreams of the longest held-out episodes, and their errors."""
    run = FreeRunning.of(contexts, range(len(contexts)), STEPS)
    frames = run.dream(engine)
    over_time = run.over_time(frames, min(LEAST, len(run.episodes)))
    return Dreams(run.context, over_time, engine.model.config.vector_size > 0, _side_by_side(run, frames))


def block_norms(engine: Engine, contexts: EpisodeStore) -> Norms | None:
    """The states of the model while it observes the longest held-out episode; None if its kind has none."""
    model, longest = engine.model, int(contexts.lengths.argmax())
    frames = min(NORM_FRAMES, int(contexts.lengths[longest]) + 1)
    batch = clip_batch([contexts.read(longest, 0, frames)], frames).to(model.device)
    memory, columns = model.initial_memory(1), []
    if not any(layer.state.shape[1] for layer in memory.layers):
        return None
    for t in range(frames):
        now = slice(t, t + 1)
        vectors = batch.vectors[:, now] if batch.vectors is not None and model.config.vector_size else None
        memory, _ = engine.observe(memory, batch.frames[:, now], batch.actions[:, now], vectors)
        rms = [
            norms[0] / layer.state[0, 0].numel() ** 0.5
            for layer, norms in zip(memory.layers, memory.block_norms(), strict=True)
            if layer.state.shape[1]
        ]
        columns.append(torch.cat(rms).float().cpu().numpy())
    values = np.stack(columns, axis=1)
    names = [f"layer {i + 1}" for i, layer in enumerate(memory.layers) for _ in range(layer.state.shape[1])]
    return Norms(names, values / (1 + values))


def _side_by_side(run: FreeRunning, frames: np.ndarray) -> list[np.ndarray]:
    videos = []
    for episode, dream in zip(run.episodes[:SHOWN], frames, strict=False):
        steps = len(episode.frames) - run.context
        shown = np.concatenate([episode.frames[: run.context], dream[:steps]])
        videos.append(np.concatenate([episode.frames, shown], axis=2))
    return videos
