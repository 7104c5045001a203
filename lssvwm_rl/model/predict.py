"""Observing contexts and rolling out: the one place that reads real frames in chunks and predicts those that follow.

Wherever a model is asked for, an engine that runs it may be given; for a model an engine is made that needs
no compiling, with the weights that the model has then.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from lssvwm_rl.data.clips import Batch, clip_batch
from lssvwm_rl.data.store import Episode
from lssvwm_rl.model.engine import Engine, engine_of
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.outputs import Prediction
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.progress import Update

OBSERVED = 32  # frames observed at a time, which bounds the activations of long contexts


def observe_batch(
    model: WorldModel | Engine, batch: Batch, frames: int | None = None, memory: Memory | None = None
) -> tuple[Memory, Prediction]:
    """Observe real frames, `OBSERVED` at a time.

    Args:
        batch: B clips on any device; without vectors, a model that has some predicts them.
        frames: T, how many of each clip; all if None. Padding is observed like frames: no prediction before it depends
            on it, but the memory after it does.
        memory: what has seen the first frame of each clip, and what was before; empty, with nothing seen, if None.

    Returns:
        The memory after frame T, and what the heads read from each frame that was observed, (B, T) or (B, T - 1), on
        the model's device.

    Raises:
        ValueError: if the batch does not fit the model.
    """
    frames = batch.mask.shape[1] if frames is None else frames
    whole = _model(model)
    seen, parts = int(memory is not None), []
    memory = whole.initial_memory(len(batch.mask)) if memory is None else memory
    for start in range(seen, frames, OBSERVED):
        chunk = slice(start, min(frames, start + OBSERVED))
        vectors = None if batch.vectors is None else batch.vectors[:, chunk].to(whole.device)
        images, actions = batch.frames[:, chunk].to(whole.device), batch.actions[:, chunk].to(whole.device)
        memory, prediction = model.observe(memory, images, actions, vectors)
        parts.append(prediction)
    return memory, Prediction(*(torch.cat(field, dim=1) for field in zip(*parts, strict=True)))


def memories_of(model: WorldModel | Engine, episode: Episode, frames: Sequence[int]) -> list[Memory]:
    """Memories of one row after the first so many frames of an episode, for each of several numbers that increase."""
    batch, memory, found = clip_batch([episode], len(episode.frames)), None, []
    for count in frames:
        memory, _ = observe_batch(model, batch, count, memory)
        found.append(memory)
    return found


def observe_episodes(model: WorldModel | Engine, episodes: Sequence[Episode]) -> Memory:
    """Memories after the last frames of N episodes, in their order; those of one length are observed side by side."""
    lengths = [len(e.frames) for e in episodes]
    order = sorted(range(len(episodes)), key=lengths.__getitem__)
    memories = []
    for length, rows in groupby(order, key=lengths.__getitem__):
        batch = clip_batch([episodes[i] for i in rows], length)
        memories.append(observe_batch(model, batch)[0])
    return Memory.concatenate(memories).select(torch.tensor(order).argsort())


@torch.no_grad()
def roll_out(
    model: WorldModel | Engine,
    memory: Memory,
    actions: Tensor,
    generators: Sequence[torch.Generator],
    denoise_steps: int = 4,
    vectors: Tensor | None = None,
    real: Tensor | None = None,
    temperature: float = 1.0,
    progress: Update | None = None,
) -> np.ndarray:
    """Frames that follow a memory.

    Args:
        memory: B rows; left as it is.
        actions: (B, F) or (B, F, A), the one that leads into each frame.
        generators: noise of each row, on the model's device.
        denoise_steps: network passes per frame.
        vectors: (B, F, V) of the frames that are predicted; the model predicts them itself if None.
        real: (B, F, H, W, C) uint8, with which the memory goes on (teacher-forced; a model that has vectors needs them
            then); it goes on with the predictions if None (free-running).
        temperature: times the noise.
        progress: called with (frames, F).

    Returns:
        (B, F, H, W, C) uint8.
    """
    (B, F), engine = actions.shape[:2], engine_of(model)
    device, vector_size = engine.model.device, engine.model.config.vector_size
    if real is not None and vectors is None and vector_size:
        raise ValueError(f"The model has vectors of {vector_size} numbers; give the frames' vectors.")
    predicted = np.empty((B, F, *engine.model.config.frame_shape), np.uint8)
    for t in range(F):
        action, noise = actions[:, t].to(device), engine.draw(generators) * temperature
        vector = None if vectors is None else vectors[:, t].to(device)
        if real is None:
            step = engine.imagine(memory, action, noise, denoise_steps, vector)
            frame, memory = step.frame, step.memory
        else:
            frame = engine.denoise(memory, action, noise, denoise_steps, vector)
            seen, given = real[:, t : t + 1].to(device), None if vector is None else vector[:, None]
            memory, _ = engine.observe(memory, seen, action[:, None], given)
        predicted[:, t] = frame.cpu().numpy()
        if progress is not None:
            progress(t + 1, F)
    return predicted


def predict_frames(
    model: WorldModel | Engine,
    episodes: Sequence[Episode],
    context: int,
    free_running: bool,
    denoise_steps: int = 4,
    rows: int = 32,
    progress: Update | None = None,
) -> np.ndarray:
    """All frames after the first `context` real ones, led by the real actions.

    Where the model has vectors, those of predicted frames are given as they were: pose-conditioned prediction. Noise is
    episode i's own, seeded by i, so the first frame is the same free-running or not.

    Args:
        episodes: N; shorter ones are padded behind.
        context: real frames observed before.
        free_running: whether the memory goes on with what was predicted, instead of with the real frames.
        rows: episodes predicted side by side.
        progress: called with (frames of all rows, N times F).

    Returns:
        (N, F, H, W, C) uint8, F frames to the end of the longest episode.

    Raises:
        ValueError: if the context is empty or leaves nothing to predict, or the episodes lack the model's vectors.
    """
    longest = max(len(e.frames) for e in episodes)
    if not 1 <= context < longest:
        raise ValueError(f"A context of {context} frames leaves nothing to predict of {longest}; choose 1 to less.")
    size = 0 if episodes[0].vectors is None else episodes[0].vectors.shape[1]
    engine, wanted = engine_of(model), _model(model).config.vector_size
    if wanted not in (0, size):
        raise ValueError(
            f"The model takes vectors of {wanted} numbers, the episodes have {size}; record the vectors it was trained "
            "with."
        )
    parts = []
    for start in range(0, len(episodes), rows):
        batch = clip_batch(episodes[start : start + rows], longest)
        memory, _ = observe_batch(engine, batch, context)
        noise, actions = _generators(engine.model, start, len(batch.mask)), batch.actions[:, context:]
        vectors = None if batch.vectors is None or not wanted else batch.vectors[:, context:]
        real = None if free_running else batch.frames[:, context:]
        heard = None if progress is None else _part(progress, start, len(noise), len(episodes))
        parts.append(roll_out(engine, memory, actions, noise, denoise_steps, vectors, real, progress=heard))
    return np.concatenate(parts)


def predict_every_frame(
    model: WorldModel | Engine, episodes: Sequence[Episode], denoise_steps: int = 4
) -> list[np.ndarray]:
    """Every frame but the first, each predicted from the real frames before it, all episodes side by side.

    Returns:
        Per episode (T, H, W, C) uint8, the predictions of frames 1..T.

    Raises:
        ValueError: as `predict_frames`.
    """
    predicted = predict_frames(model, episodes, 1, False, denoise_steps, rows=len(episodes))
    return [predicted[i, : len(e)] for i, e in enumerate(episodes)]


def dream(
    model: WorldModel | Engine,
    episode: Episode,
    context_length: int,
    steps: int,
    seed: int,
    denoise_steps: int = 4,
    progress: Update | None = None,
) -> np.ndarray:
    """Frames dreamt after the episode's first `context_length` real ones, led by the episode's own actions.

    Where the episode has no more actions, its own are repeated from the start. Vectors are predicted. `progress` is
    called with (frames, steps).

    Returns:
        (steps, H, W, C) uint8.

    Raises:
        ValueError: if the context is empty or longer than the episode.
    """
    if not 1 <= context_length <= len(episode.frames):
        raise ValueError(
            f"A context of {context_length} frames does not fit an episode of {len(episode.frames)} frames; "
            f"choose 1 to {len(episode.frames)}."
        )
    batch = clip_batch([episode], len(episode.frames))
    memory, _ = observe_batch(model, batch, context_length)
    moves = [(context_length - 1 + t) % len(episode) for t in range(steps)]
    generators = _generators(_model(model), seed, 1)
    return roll_out(model, memory, batch.actions[:, 1:][:, moves], generators, denoise_steps, progress=progress)[0]


def dream_video(
    model: WorldModel | Engine,
    episode: Episode,
    context_length: int,
    steps: int,
    seed: int,
    denoise_steps: int = 4,
    progress: Update | None = None,
) -> np.ndarray:
    """Real frames on the left, the dream from the same context on the right: (context + steps, H, 2W, C) uint8.

    Both sides show the context first. After the episode's end the left side keeps its last frame, darkened.
    `progress` is called with (frames, steps).
    """
    context = episode.frames[:context_length]
    shown = np.concatenate([context, dream(model, episode, context_length, steps, seed, denoise_steps, progress)])
    real = episode.frames[: len(shown)]
    missing = len(shown) - len(real)
    if missing:
        real = np.concatenate([real, np.repeat(real[-1:] // 3, missing, axis=0)])
    return np.concatenate([real, shown], axis=2)


def _part(progress: Update, before: int, rows: int, of: int) -> Update:
    """What hears of the frames of some rows, as a part of those of all rows."""

    def heard(done: float, total: float, note: str = "") -> None:
        progress(before * total + rows * done, of * total, note)

    return heard


def _generators(model: WorldModel, seed: int, rows: int) -> list[torch.Generator]:
    """Noise of every row i, seeded by seed + i."""
    return [torch.Generator(model.device).manual_seed(seed + i) for i in range(rows)]


def _model(model: WorldModel | Engine) -> WorldModel:
    return model if isinstance(model, WorldModel) else model.model
