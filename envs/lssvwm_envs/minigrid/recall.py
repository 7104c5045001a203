"""MiniGridRecall: a room with floor tiles of random colours, seen three tiles at a time, so that what comes back into
view has to be remembered."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from minigrid.core.constants import COLOR_NAMES
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Floor
from minigrid.minigrid_env import MiniGridEnv

from lssvwm_envs.make import TILE_SIZE

VIEW = 3  # tiles per side of what the agent sees


class MiniGridRecall(MiniGridEnv):
    """Walk about; there is no reward and no end but the last step.

    Actions: 0 left, 1 right, 2 forward.

    Args:
        size: of the room, its walls included; at least 5.
        max_steps: until truncation.

    Raises:
        ValueError: for a smaller size.
    """

    def __init__(self, size: int = 9, max_steps: int = 63, **kwargs: Any) -> None:
        if size < 5:
            raise ValueError(f"The room must be at least 5 tiles wide, got {size}.")
        space = MissionSpace(mission_func=lambda: "look around")
        super().__init__(
            space, grid_size=size, max_steps=max_steps, see_through_walls=True, agent_view_size=VIEW, **kwargs
        )
        self.action_space = spaces.Discrete(3)

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        for x in range(1, width - 1):
            for y in range(1, height - 1):
                self.grid.set(x, y, Floor(COLOR_NAMES[self.np_random.integers(len(COLOR_NAMES))]))
        self.agent_pos = self.np_random.integers(1, (width - 1, height - 1))
        self.agent_dir = int(self.np_random.integers(4))
        self.mission = "look around"

    def surfaces(self) -> np.ndarray:
        """What every pixel of the agent's view shows, (H, W) int32, see `pose_surfaces`."""
        return _shown(np.array(self.agent_pos), np.array(self.dir_vec), self.width, TILE_SIZE)


def visible_tiles(pose: np.ndarray, size: int) -> np.ndarray:
    """Grid coordinates (..., VIEW, VIEW, 2) of the tiles in frames, from poses (..., 4) of `make.PoseInfo`."""
    return _tiles(np.rint(pose[..., :2] * size).astype(int), np.rint(pose[..., 2:]).astype(int))


def pose_surfaces(poses: np.ndarray, size: int, tile: int = TILE_SIZE) -> np.ndarray:
    """What every pixel of an episode's frames shows, in the sense of `revisit.sight_ages`.

    Args:
        poses: (T, 4), of every frame.
        size: of the room.
        tile: pixels per tile.

    Returns:
        (T, H, W) int32, the number of the floor tile; -1 for walls, and for the agent's own tile, which is drawn over.
    """
    return _shown(np.rint(poses[:, :2] * size).astype(int), np.rint(poses[:, 2:]).astype(int), size, tile)


def _tiles(position: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """As `visible_tiles`, from where the agent is and what it looks at, (..., 2) each."""
    right = np.stack([-forward[..., 1], forward[..., 0]], axis=-1)
    rows, columns = np.meshgrid(np.arange(VIEW), np.arange(VIEW), indexing="ij")
    position, forward, right = (v[..., None, None, :] for v in (position, forward, right))
    return position + forward * (VIEW - 1 - rows)[..., None] + right * (columns - VIEW // 2)[..., None]


def _shown(position: np.ndarray, forward: np.ndarray, size: int, tile: int) -> np.ndarray:
    tiles = _tiles(position, forward)
    floor = np.all((tiles > 0) & (tiles < size - 1), axis=-1)
    numbers = np.where(floor, tiles[..., 1] * size + tiles[..., 0], -1).astype(np.int32)
    numbers[..., VIEW - 1, VIEW // 2] = -1
    return numbers.repeat(tile, axis=-2).repeat(tile, axis=-1)
