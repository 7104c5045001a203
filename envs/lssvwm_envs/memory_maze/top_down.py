"""A map of a maze, for people."""

from __future__ import annotations

import numpy as np

from lssvwm_envs.memory_maze import appearance
from lssvwm_envs.memory_maze.kinematics import RADIUS, TURN
from lssvwm_envs.memory_maze.maze import Mazes
from lssvwm_envs.memory_maze.raycaster import EAST, EDGE, NORTH, OBJECT_RADIUS, SOUTH, WEST

HEIGHT = 256  # pixels of what `render` gives
SEAM = 0.12  # cells, how thick the coloured sides of walls are drawn
SHOWN_OBJECT = 1.6 * OBJECT_RADIUS
WALL, AGENT = np.array([58, 58, 62], np.uint8), np.array([20, 20, 20], np.uint8)


def draw_map(mazes: Mazes, row: int, pixels: int = HEIGHT) -> np.ndarray:
    """(pixels, pixels, 3) uint8: floors, walls with the colours of their sides, objects, and the agent's view.

    The object to find has a white ring.
    """
    n = mazes.config.size
    place = (np.arange(pixels) + 0.5) / pixels * (n + 2) - 1
    x, y = np.meshgrid(place, place)
    cx, cy = np.floor(x).astype(int), np.floor(y).astype(int)
    inside = (cx >= 0) & (cy >= 0) & (cx < n) & (cy < n)
    open_cells = np.pad(mazes.open_cells[row], 2)
    is_open = open_cells[cy + 2, cx + 2] == 1
    floor = appearance.FLOOR_COLORS[mazes.floor_styles[row, cy + 1, cx + 1]]
    image = np.where((inside & is_open)[..., None], floor, WALL).astype(np.uint8)
    for side, (dx, dy), edge in (
        (WEST, (-1, 0), x - cx),
        (EAST, (1, 0), cx + 1 - x),
        (NORTH, (0, -1), y - cy),
        (SOUTH, (0, 1), cy + 1 - y),
    ):
        shown = ~is_open & (open_cells[cy + 2 + dy, cx + 2 + dx] == 1) & (edge < SEAM)
        image[shown] = appearance.WALL_COLORS[mazes.wall_styles[row, cy + 1, cx + 1, side]][shown]
    for k, (u, v) in enumerate(mazes.objects[row]):
        distance = np.hypot(x - u, y - v)
        if k == mazes.target[row]:
            image[distance < SHOWN_OBJECT + 0.1] = 255
        image[distance < SHOWN_OBJECT] = appearance.OBJECT_COLORS[k]
    angle = mazes.heading[row] * TURN
    right, ahead = x - mazes.x[row], y - mazes.y[row]
    ahead, right = (
        right * np.cos(angle) + ahead * np.sin(angle),
        ahead * np.cos(angle) - right * np.sin(angle),
    )
    view = (ahead > 0) & (np.abs(right) < EDGE * ahead) & (ahead < 1) & is_open
    image[view] = (image[view].astype(int) + 255) // 2
    image[np.hypot(ahead, right) < RADIUS] = AGENT
    return image


def beside_map(mazes: Mazes, row: int) -> np.ndarray:
    """The agent's view, enlarged, and the map: (HEIGHT, 2 * HEIGHT, 3) uint8."""
    frame = mazes.frames()[row]
    nearest = (np.arange(HEIGHT) * len(frame)) // HEIGHT
    return np.concatenate([frame[nearest][:, nearest], draw_map(mazes, row)], axis=1)
