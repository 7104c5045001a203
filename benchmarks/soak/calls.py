"""A call of an environment, and what it has to come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np


@dataclass(frozen=True)
class Call:
    """One call of an environment."""

    what: str
    make: Callable[[], Any]
    fits: bool
    """Whether it has to work; else it has to be refused."""
    check: Callable[[Any], str] = lambda _: ""
    """What is wrong with what it returned, empty if nothing is."""


class Calls(Protocol):
    """One environment, and what can be asked of it."""

    def draw(self, rng: np.random.Generator) -> Call:
        """A call with random arguments."""

    def snapshot(self) -> Any:
        """Everything that decides how the environment goes on, comparable with ==."""


def steps_differ(space: gym.Space, returned: Any, rows: int | None) -> str:
    """What is wrong with what `step` returned: of one environment, or of a vector of so many rows."""
    observation, reward, terminated, truncated, info = returned
    if observation not in space:
        return f"returns an observation that is not in {space}"
    if rows is None:
        plain = type(reward) is float and type(terminated) is bool and type(truncated) is bool
    else:
        parts = ((reward, "f"), (terminated, "b"), (truncated, "b"))
        plain = all(part.shape == (rows,) and part.dtype.kind == kind for part, kind in parts)
    if not plain or not np.isfinite(reward).all() or not isinstance(info, dict):
        return f"returns {returned[1:4]}"
    return ""


def beginning_differs(space: gym.Space, returned: Any) -> str:
    """What is wrong with what `reset` or `fork` returned, empty if nothing is."""
    if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[1], dict):
        return f"returns {str(returned)[:200]}"
    return "" if returned[0] in space else f"returns an observation that is not in {space}"


def picture_differs(picture: Any) -> str:
    """What is wrong with what `render` returned, empty if nothing is."""
    fits = isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3
    return "" if fits and picture.shape[2] == 3 else f"returns {str(picture)[:200]}"


def pictures_differ(pictures: Any, rows: int) -> str:
    """The same of a vector environment."""
    if not isinstance(pictures, tuple) or len(pictures) != rows:
        return f"returns {str(pictures)[:200]}"
    return next(filter(None, map(picture_differs, pictures)), "")


def a_seed(rng: np.random.Generator, begun: bool) -> int | None:
    """For one environment: none where its generator was seeded before, so that a soak can be repeated."""
    return None if begun and rng.random() < 0.5 else int(rng.integers(2**32))


def a_seed_of_rows(rng: np.random.Generator, begun: bool) -> int | list[int | None] | None:
    """For a vector of two; begun is whether all rows have been."""
    return [int(rng.integers(9)), None] if begun and rng.random() < 0.3 else a_seed(rng, begun)


BAD_SEEDS: tuple[Any, ...] = (-1, -(10**30), 1.5, "seven", float("nan"))
"""For one environment; all are none for a vector, too."""
