"""What users give to dreams, checked before anything changes: options of a reset, contexts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from lssvwm_rl.data.store import Episode
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.spaces import action_layout, space_from_json


def check_options(options: dict[str, Any] | None, known: Sequence[str]) -> dict[str, Any]:
    """The options of a reset.

    Raises:
        ValueError: if one is unknown.
    """
    for option in options or {}:
        if option not in known:
            raise ValueError(f"Option {option!r} is unknown; use {' or '.join(known)}.")
    return options or {}


def check_context(context: Any, config: WorldModelConfig) -> Episode:
    """Real frames (T, H, W, C) uint8, the actions (T-1[, A]) between them, and vectors (T, V) if the model has any.

    Raises:
        ValueError: if they do not fit the model.
    """
    parts = len(context) if isinstance(context, (tuple, list)) else 0
    if parts not in (2, 3):
        got = type(context).__name__ + (f" of {parts}" if parts else "")
        raise ValueError(f"A context must be (frames, actions) or (frames, actions, vectors), got a {got}.")
    frames = np.asarray(context[0])
    if frames.dtype != np.uint8 or frames.shape[1:] != config.frame_shape or len(frames) == 0:
        raise ValueError(
            f"Context frames of {frames.shape} {frames.dtype} do not fit; give T frames of {config.frame_shape} uint8."
        )
    actions = _context_actions(context[1], len(frames), space_from_json(config.action_space))
    vectors = _context_vectors(context[2], len(frames), config.vector_size) if parts == 3 else None
    none = np.zeros(len(actions), np.float32)
    return Episode(frames, actions, none, terminated=False, truncated=False, vectors=vectors)


def _context_actions(given: Any, frames: int, space: gym.Space) -> np.ndarray:
    shape, dtype = action_layout(space)
    actions, needed = np.asarray(given), (frames - 1, *shape)
    if actions.shape != needed:
        raise ValueError(f"{frames} context frames need {needed} actions between them, got {actions.shape}.")
    if isinstance(space, spaces.Box):  # real environments take actions that are out of range
        fitting = actions.dtype.kind in "iuf" and bool(np.isfinite(actions).all())
    else:
        whole = actions.dtype.kind in "iub" or not len(actions)
        fitting = whole and all(space.contains(action) for action in actions.astype(dtype))
    if not fitting:
        raise ValueError(f"Context actions {actions!r} are not all in {space}; give those between the frames.")
    return actions.astype(dtype)


def _context_vectors(given: Any, frames: int, size: int) -> np.ndarray | None:
    if given is None:
        return None
    vectors = np.asarray(given, np.float32)
    if not size or vectors.shape != (frames, size):
        raise ValueError(
            f"Context vectors of {vectors.shape} do not fit {frames} frames of a model with {size} numbers per frame."
        )
    if not np.isfinite(vectors).all():
        raise ValueError("Context vectors hold NaN or infinity; give finite numbers, or none at all.")
    return vectors
