"""Dreams beside reality: videos, stills, and the TensorBoard log."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
from torch.utils.tensorboard import FileWriter
from torch.utils.tensorboard.summary import scalar

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.store import Episode
from lssvwm_rl.world_model import WorldModel

MIN_HEIGHT = 224  # pixels; smaller frames are enlarged by whole factors, which keeps pixel art sharp
FPS = 8


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


def write_video(path: str | Path, frames: np.ndarray, fps: int = FPS) -> None:
    """Write (T, H, W, C) uint8 as mp4 or gif, by the suffix; appears whole or not at all.

    Raises:
        ValueError: for another suffix.
    """
    path = Path(path)
    temporary = path.with_name(f".tmp-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mp4":
        iio.imwrite(temporary, enlarge(frames, even=True), plugin="pyav", codec="libx264", fps=fps)
    elif path.suffix == ".gif":
        temporary.write_bytes(_gif(frames, fps))
    else:
        raise ValueError(
            f"Videos are written as .mp4 or .gif, not {path.suffix or 'without a suffix'!r}; rename {path}."
        )
    os.replace(temporary, path)


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as png; appears whole or not at all."""
    path = Path(path)
    temporary = path.with_name(f".tmp-{path.name}")
    iio.imwrite(temporary, image, extension=".png")
    os.replace(temporary, path)


def frame_strip(frames: np.ndarray, columns: int, gap: int = 2) -> np.ndarray:
    """Lay (T, H, W, C) frames out in rows of `columns`, white gaps between: one uint8 image."""
    T, H, W, C = frames.shape
    rows = math.ceil(T / columns)
    image = np.full((rows * (H + gap) - gap, columns * (W + gap) - gap, C), 255, np.uint8)
    for t, frame in enumerate(frames):
        y, x = t // columns * (H + gap), t % columns * (W + gap)
        image[y : y + H, x : x + W] = frame
    return image


def enlarge(frames: np.ndarray, even: bool = False) -> np.ndarray:
    """Repeat pixels until frames (T, H, W, C) are at least `MIN_HEIGHT` high; video codecs need `even` sizes."""
    factor = max(1, math.ceil(MIN_HEIGHT / frames.shape[1]))
    if even and factor % 2 and (frames.shape[1] % 2 or frames.shape[2] % 2):
        factor += 1
    frames = frames.repeat(factor, axis=1).repeat(factor, axis=2)
    return frames.repeat(3, axis=3) if frames.shape[3] == 1 else frames[..., :3]


def open_log(folder: Path, step: int) -> FileWriter:
    """TensorBoard events of a run that continues at `step`."""
    return FileWriter(str(folder), filename_suffix=f".{step}")


def log_scalars(log: FileWriter, values: Mapping[str, float], step: int) -> None:
    """One scalar per value."""
    for name, value in values.items():
        if name != "step":
            log.add_summary(scalar(f"train/{name}", value), step)


def log_preview(log: FileWriter, model: WorldModel, episode: Episode, step: int, folder: Path) -> None:
    """A video real | dreamt in TensorBoard, and as preview.mp4 in the run folder."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    context = min(8, len(episode) // 2 + 1)
    frames = dream_video(model, episode, context, len(episode.frames) - context, seed=0)
    image = Summary.Image(
        height=frames.shape[1], width=frames.shape[2], colorspace=3, encoded_image_string=_gif(frames, FPS)
    )
    log.add_summary(Summary(value=[Summary.Value(tag="preview/real_and_dream", image=image)]), step)
    write_video(folder / "preview.mp4", frames)


def _gif(frames: np.ndarray, fps: int) -> bytes:
    settings: dict[str, Any] = {"extension": ".gif", "duration": 1000 / fps, "loop": 0}
    return iio.imwrite("<bytes>", enlarge(frames), **settings)
