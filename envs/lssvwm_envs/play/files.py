"""Files that a page gets and gives, as bytes: states and videos."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lssvwm_envs.dream.state import DreamState
from lssvwm_rl.pictures import write_video

GAP = 4  # pixels between the pictures of a video, at their own size
BACKGROUND = 24


def state_bytes(state: DreamState) -> bytes:
    """A dream's state as `DreamState.save` writes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        state.save(path)
        return path.read_bytes()


def read_state(data: bytes, check: Callable[[DreamState], None]) -> DreamState:
    """The state in a file that somebody gave.

    Args:
        check: raises ValueError for a state that nothing can go on from.

    Raises:
        ValueError: if it is broken, something else, or does not pass the check; the message names no path.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        path.write_bytes(data)
        try:
            state = DreamState.load(path)
        # Whatever a file can do to its readers: it is text and numbers of somebody's, deeply nested or huge.
        except (ValueError, KeyError, RecursionError, OverflowError, MemoryError, RuntimeError) as error:
            raise ValueError("The file is not a dream state; give one that was downloaded here.") from error
    try:
        check(state)
    except (ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise ValueError(
            "The file is a dream state that this checkpoint cannot go on from; choose the checkpoint that it came from."
        ) from error
    return state


def video_bytes(films: Sequence[Sequence[np.ndarray]]) -> bytes:
    """An MP4 of films side by side, each of frames (H, W, C) uint8; a shorter one stays at its last frame."""
    longest = max(len(film) for film in films)
    parts: list[np.ndarray] = []
    for film in films:
        frames = np.stack([*film, *[film[-1]] * (longest - len(film))])
        parts += [np.full((*frames.shape[:2], GAP, frames.shape[3]), BACKGROUND, np.uint8)] if parts else []
        parts.append(frames)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "play.mp4"
        write_video(path, np.concatenate(parts, axis=2))
        return path.read_bytes()
