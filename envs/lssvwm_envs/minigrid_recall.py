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

VIEW = 3  # tiles per side of what the agent sees
NEVER, MEMORY, WINDOW, IGNORED = range(4)


class MiniGridRecall(MiniGridEnv):
    """Walk about; there is no reward and no end but the last step.

    Actions: 0 left, 1 right, 2 forward.

    Args:
        size: of the room, its walls included; at least 5.
        max_steps: until truncation.

    Raises:
        ValueError: for a smaller size.
    """

    def __init__(self, size: int = 9, max_steps: int = 63, **kwargs: Any):
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


def visible_tiles(pose: np.ndarray, size: int) -> np.ndarray:
    """Grid coordinates (VIEW, VIEW, 2) of the tiles in a frame, from a pose of `minigrid.PoseInfo`."""
    position = np.rint(pose[:2] * size).astype(int)
    forward = np.rint(pose[2:]).astype(int)
    right = np.array([-forward[1], forward[0]])
    rows, columns = np.meshgrid(np.arange(VIEW), np.arange(VIEW), indexing="ij")
    return position + forward * (VIEW - 1 - rows)[..., None] + right * (columns - VIEW // 2)[..., None]


def revisit_masks(poses: np.ndarray, size: int, window: int, tile: int) -> np.ndarray:
    """What each pixel of an episode's frames needs: (T, H, W) uint8.

    NEVER was not seen before, MEMORY was last seen more than `window` - 1 frames ago, WINDOW later than that. Walls and
    the agent's own tile, which is drawn over, are IGNORED.

    Args:
        poses: (T, 4), of every frame.
        size: of the room.
        window: frames that the model's attention reaches, the own one included; through L layers with a window of k
            these are (k - 1) * L + 1.
        tile: pixels per tile.
    """
    seen: dict[tuple[int, int], int] = {}
    masks = np.full((len(poses), VIEW, VIEW), IGNORED, np.uint8)
    for t, pose in enumerate(poses):
        tiles = visible_tiles(pose, size)
        for i, j in np.ndindex(VIEW, VIEW):
            place = (int(tiles[i, j, 0]), int(tiles[i, j, 1]))
            if (i, j) == (VIEW - 1, VIEW // 2) or min(place) < 1 or max(place) > size - 2:
                continue
            last = seen.get(place)
            masks[t, i, j] = NEVER if last is None else MEMORY if t - last >= window else WINDOW
            seen[place] = t
    return masks.repeat(tile, axis=1).repeat(tile, axis=2)
