"""Scripted policies for mazes: a walk in every maze."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import numpy as np
from gymnasium.vector import VectorEnv

from lssvwm_envs.explorers.maze_view import MazeView, are_mazes, maze_views
from lssvwm_envs.explorers.registry import explorer
from lssvwm_rl.policy import kept_by

Walk = Callable[[MazeView, np.random.Generator], Iterator[int]]
"""A generator of the actions of one episode."""
AWalk = TypeVar("AWalk", bound=Callable[..., Iterator[int]])


def maze_walk(name: str) -> Callable[[AWalk], AWalk]:
    """Decorate a walk, so that the explorer that walks it can be asked for by name."""

    def register(walk: AWalk) -> AWalk:
        explorer(name, suits=are_mazes)(partial(MazeExplorer, walk=walk))
        return walk

    return register


class MazeExplorer:
    """A walk in every maze of a vector environment.

    Args:
        envs: native, or a SyncVectorEnv of `MemoryMazeEnv`.
        seed: of the walks.
        walk: what is walked, one of `maze_walks` or another.

    Raises:
        ValueError: for other environments.
    """

    by_world = True
    """Draws depend on the seeds of episodes as well, so the same seed does for a collection that is continued."""

    def __init__(self, envs: VectorEnv, seed: int, walk: Walk) -> None:
        self.views, self.seed, self.walk = maze_views(envs), seed, walk

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Actions (n,) int64; the state is what is left of every walk."""
        walks = kept_by(self.views, state, episode_start, self._begin)
        return np.array([next(walk) for walk in walks], np.int64), walks

    def _begin(self, view: MazeView) -> Iterator[int]:
        return self.walk(view, np.random.default_rng([self.seed, int(view.mazes.seeds[view.row])]))
