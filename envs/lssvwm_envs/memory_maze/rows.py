"""Mazes as the rows of environments: seeds, ends and observations around `Mazes`, which knows the task only."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding

from lssvwm_envs.memory_maze.appearance import OBJECT_COLORS
from lssvwm_envs.memory_maze.maze import MazeConfig, Mazes
from lssvwm_envs.rows import with_masks

EXTRA = ("agent_pos", "agent_dir", "maze_layout", "targets_pos", "target_color")


class MazeStep(NamedTuple):
    """One step of N mazes; those that had ended before did not take it."""

    reward: np.ndarray  # (N,) float64
    terminated: np.ndarray  # (N,) bool, never
    truncated: np.ndarray  # (N,) bool
    info: dict[str, np.ndarray]  # see `Mazes.info`


class MazeRows:
    """N mazes that are begun anew with seeds of their own generators, see `rows.Rows`.

    Attributes:
        mazes: N mazes.
        ended: (N,) bool, rows whose episode has ended and waits for its reset.
        empty: (N,) bool, rows that have had no episode yet.
        generators: one per row, which draws the seeds of its episodes.
    """

    def __init__(self, config: MazeConfig, count: int, extra_obs: bool):
        self.mazes, self.extra_obs = Mazes(config, count), extra_obs
        self.ended, self.empty = np.zeros(count, bool), np.ones(count, bool)
        self.generators = [seeding.np_random(None)[0] for _ in range(count)]

    def begin(self, mask: np.ndarray) -> dict[str, Any]:
        """Begin episodes in the rows of a mask (N,) bool; info with masks, which is of all rows."""
        rows = np.flatnonzero(mask)
        seeds = [self.generators[i].integers(2**63) for i in rows.tolist()]
        self.mazes.reset(rows, np.array(seeds, np.uint64))
        self.ended, self.empty = self.ended & ~mask, self.empty & ~mask
        return with_masks(self.mazes.info(), np.ones(len(mask), bool))

    def step(self, actions: np.ndarray) -> MazeStep:
        """Act in the mazes that have not ended, by actions (N,) int64 in 0..5."""
        reward = self.mazes.step(np.flatnonzero(~self.ended), actions)
        truncated = self.mazes.truncated() & ~self.ended
        self.ended = self.ended | truncated
        return MazeStep(reward, np.zeros(len(reward), bool), truncated, self.mazes.info())

    def observe(self) -> Any:
        """The image (N, H, W, 3) uint8, or a dict of it and of what is hidden, new arrays."""
        frames = self.mazes.frames()
        if not self.extra_obs:
            return frames
        info = self.mazes.info()
        return {"image": frames, **{name: info[name] for name in EXTRA}}


def observation_space(config: MazeConfig, extra_obs: bool) -> spaces.Space:
    """Of one environment."""
    n, K = config.size, config.targets
    image = spaces.Box(0, 255, (config.image_size, config.image_size, 3), np.uint8)
    if not extra_obs:
        return image
    return spaces.Dict(
        {
            "image": image,
            "agent_pos": spaces.Box(0, n, (2,), np.float32),
            "agent_dir": spaces.Box(-1, 1, (2,), np.float32),
            "maze_layout": spaces.Box(0, 1, (n, n), np.uint8),
            "targets_pos": spaces.Box(0, n, (K, 2), np.float32),
            "target_color": spaces.Box(0, 1, (OBJECT_COLORS.shape[1],), np.float32),
        }
    )
