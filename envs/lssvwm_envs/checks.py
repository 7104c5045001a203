"""What users give to environments of any kind, checked before anything changes: actions, the render mode."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


def check_actions(actions: Any, space: gym.Space) -> np.ndarray:
    """Actions in the layout the model takes, of a single space or of one for N rows.

    Raises:
        gymnasium.error.InvalidAction: if they are not in the space; numbers of another type are taken for a Box.
    """
    try:
        given = np.asarray(actions)
    except ValueError:
        given = np.array(None)  # rows of different lengths are in no space
    if given.dtype.kind in "iuf" and space.dtype is not None and space.dtype.kind == "f":
        with np.errstate(over="ignore"):  # 1e300 becomes infinite, and is in no space
            given = given.astype(space.dtype)
    whole = given.dtype.kind in "iub" or isinstance(space, spaces.Box)  # MultiDiscrete would take 1.5
    if not whole or not space.contains(given if space.shape else actions):
        raise gym.error.InvalidAction(f"Action {actions!r} is not in {space}; give one that is.")
    return given


def is_action(action: Any, space: gym.Space) -> bool:
    """Whether a space has an action, also of one beyond int64, with which Gymnasium's Discrete raises OverflowError."""
    try:
        return space.contains(action)
    except OverflowError:
        return False


def check_render_mode(render_mode: str | None) -> str | None:
    """The render mode.

    Raises:
        ValueError: if there is no such mode.
    """
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"There is no render mode {render_mode!r}; use 'rgb_array' or None.")
    return render_mode
