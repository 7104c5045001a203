"""What a page needs to offer the actions of an environment, and actions as it sends them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from lssvwm_envs.checks import check_actions
from lssvwm_rl.spaces import action_layout

# Label and keys of every action; keys that are held together are joined by "+". Names are those of KeyboardEvent.key.
Named = tuple[tuple[str, tuple[str, ...]], ...]

MINIGRID: Named = (
    ("Turn left", ("ArrowLeft",)),
    ("Turn right", ("ArrowRight",)),
    ("Forward", ("ArrowUp",)),
    ("Pick up", ("p",)),
    ("Drop", ("d",)),
    ("Toggle", (" ",)),
    ("Done", ("Enter",)),
)
MAZE: Named = (
    ("Wait", (" ",)),
    ("Forward", ("ArrowUp",)),
    ("Turn left", ("ArrowLeft",)),
    ("Turn right", ("ArrowRight",)),
    ("Forward and left", ("ArrowUp+ArrowLeft",)),
    ("Forward and right", ("ArrowUp+ArrowRight",)),
)
LARGEST = 1e6  # beyond it, bounds of a Box are none that a slider could show
DIGITS = 10


def controls_of(env_id: str | None, space: gym.Space) -> dict[str, Any]:
    """How the actions of a space are chosen, as JSON values.

    Discrete ones are "buttons" with an action, a label and keys; MiniGrid and mazes have names and arrow keys, and the
    first ten actions of all others have the digits. MultiDiscrete ones are "choices", a list of sizes and where they
    count from. Box ones are "sliders" with bounds, None where there are none.

    Args:
        env_id: of the environment, if it is known.

    Raises:
        ValueError: for an action space that models do not have.
    """
    if isinstance(space, spaces.Discrete):
        start, named = int(space.start), _named(env_id or "", int(space.n))
        return {"kind": "buttons", "buttons": [
            {"action": start + i, "label": named[i][0], "keys": list(named[i][1])} for i in range(int(space.n))
        ]}  # fmt: skip
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": "choices", "sizes": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, spaces.Box):
        low, high = ([_bound(value) for value in bound.tolist()] for bound in (space.low, space.high))
        return {"kind": "sliders", "low": low, "high": high, "whole": space.dtype == np.uint8}
    raise ValueError(f"Action space {space} has no controls; use Discrete, MultiDiscrete or Box.")


def action_of(value: Any, space: gym.Space) -> np.ndarray:
    """An action () or (A,), in the layout the model takes, of a JSON value.

    Raises:
        gymnasium.error.InvalidAction: if it is not in the space.
    """
    if not isinstance(value, (int, float, list)):
        raise gym.error.InvalidAction(f"A {type(value).__name__} is no action; give a number or a list of numbers.")
    _, dtype = action_layout(space)
    return np.asarray(check_actions(value, space), dtype)


def for_environment(action: np.ndarray, space: gym.Space) -> Any:
    """The same action as a real environment of that space takes it."""
    return int(action) if isinstance(space, spaces.Discrete) else action.astype(space.dtype)


def _named(env_id: str, count: int) -> Named:
    if count == len(MINIGRID) and any(family in env_id for family in ("MiniGrid", "BabyAI")):
        names = MINIGRID
    elif count == len(MAZE) and "Maze" in env_id:
        names = MAZE
    else:
        return tuple((f"Action {i}", (str(i),) if i < DIGITS else ()) for i in range(count))
    return tuple((label, (*keys, str(i))) for i, (label, keys) in enumerate(names))


def _bound(value: float) -> float | None:
    return float(value) if abs(value) <= LARGEST else None
