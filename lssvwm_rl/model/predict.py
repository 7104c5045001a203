"""Frames predicted after a context: each from the real frames before it, or all of them dreamt in one go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.store import Episode
from lssvwm_rl.model.world_model import WorldModel

OBSERVED = 32  # context frames observed at a time, which bounds the activations of long contexts


def predict_frames(
    model: WorldModel,
    episodes: Sequence[Episode],
    context: int,
    free_running: bool,
    denoise_steps: int = 4,
    rows: int = 32,
) -> np.ndarray:
    """All frames after the first `context` real ones, led by the real actions.

    Where the model has vectors, those of predicted frames are given as they were: pose-conditioned prediction. Noise is
    episode i's own, seeded by i, so the first frame is the same free-running or not.

    Args:
        episodes: N; shorter ones are padded behind.
        context: real frames observed before.
        free_running: whether the memory goes on with what was predicted, instead of with the real frames
            (teacher-forced).
        denoise_steps: network passes per frame.
        rows: episodes predicted side by side.

    Returns:
        (N, F, H, W, C) uint8, F frames to the end of the longest episode.

    Raises:
        ValueError: if the context is empty or leaves nothing to predict, or the episodes lack the model's vectors.
    """
    longest = max(len(e.frames) for e in episodes)
    if not 1 <= context < longest:
        raise ValueError(f"A context of {context} frames leaves nothing to predict of {longest}; choose 1 to less.")
    size = 0 if episodes[0].vectors is None else episodes[0].vectors.shape[1]
    if model.config.vector_size not in (0, size):
        raise ValueError(
            f"The model takes vectors of {model.config.vector_size} numbers, the episodes have {size}; record the "
            "vectors it was trained with."
        )
    starts = range(0, len(episodes), rows)
    return np.concatenate(
        [_predict(model, episodes[i : i + rows], i, longest, context, free_running, denoise_steps) for i in starts]
    )


@torch.no_grad()
def _predict(
    model: WorldModel,
    episodes: Sequence[Episode],
    first_seed: int,
    longest: int,
    context: int,
    free_running: bool,
    denoise_steps: int,
) -> np.ndarray:
    batch = clip_batch(episodes, longest).to(model.device)
    given = batch.vectors if model.config.vector_size else None
    memory = model.initial_memory(len(episodes))
    for start in range(0, context, OBSERVED):
        piece = slice(start, min(context, start + OBSERVED))
        vectors = None if given is None else given[:, piece]
        memory, _ = model.observe(memory, batch.frames[:, piece], batch.actions[:, piece], vectors)
    generators = [torch.Generator(model.device).manual_seed(first_seed + i) for i in range(len(episodes))]
    predicted = np.empty((len(episodes), longest - context, *model.config.frame_shape), np.uint8)
    for t in range(context, longest):
        now = slice(t, t + 1)
        vectors = None if given is None else given[:, now]
        masks = model.backbone.masks(memory.frames)
        frame = model.imagine_frame(memory, batch.actions[:, t], vectors, generators, denoise_steps, masks)
        predicted[:, t - context] = frame.cpu().numpy()
        seen = frame[:, None] if free_running else batch.frames[:, now]
        memory, _ = model.commit(memory, seen, batch.actions[:, now], vectors, masks)
    return predicted


def dream(
    model: WorldModel, episode: Episode, context_length: int, steps: int, seed: int, denoise_steps: int = 4
) -> np.ndarray:
    """Frames dreamt after the episode's first `context_length` real ones, led by the episode's own actions.

    Where the episode has no more actions, its own are repeated from the start.

    Returns:
        (steps, H, W, C) uint8.

    Raises:
        ValueError: if the context is empty or longer than the episode.
    """
    if not 1 <= context_length <= len(episode.frames):
        raise ValueError(
            f"A context of {context_length} frames does not fit an episode of {len(episode.frames)}; choose less."
        )
    batch = clip_batch([episode], len(episode.frames)).to(model.device)
    context = slice(0, context_length)
    vectors = None if batch.vectors is None else batch.vectors[:, context]
    memory, _ = model.observe(model.initial_memory(1), batch.frames[:, context], batch.actions[:, context], vectors)
    generators = [torch.Generator(model.device).manual_seed(seed)]
    moves = batch.actions[:, 1:]
    frames = []
    for t in range(steps):
        action = moves[:, (context_length - 1 + t) % moves.shape[1]]
        step = model.imagine(memory, action, generators, denoise_steps)
        memory = step.memory
        frames.append(step.frame[0].cpu().numpy())
    return np.stack(frames) if frames else np.zeros((0, *model.config.frame_shape), np.uint8)


def dream_video(
    model: WorldModel, episode: Episode, context_length: int, steps: int, seed: int, denoise_steps: int = 4
) -> np.ndarray:
    """Real frames on the left, the dream from the same context on the right: (context + steps, H, 2W, C) uint8.

    Both sides show the context first. After the episode's end the left side keeps its last frame, darkened.
    """
    context = episode.frames[:context_length]
    dreamt = np.concatenate([context, dream(model, episode, context_length, steps, seed, denoise_steps)])
    real = episode.frames[: len(dreamt)]
    missing = len(dreamt) - len(real)
    if missing:
        real = np.concatenate([real, np.repeat(real[-1:] // 3, missing, axis=0)])
    return np.concatenate([real, dreamt], axis=2)
