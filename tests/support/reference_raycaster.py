"""The maze drawn the slow way: every ray meets every face of all walls, the floor and all spheres; the nearest wins.

Only settings and textures come from the renderer that this checks; the geometry is written anew, in three dimensions.
"""

from __future__ import annotations

import numpy as np

from lssvwm_envs.memory_maze import appearance
from lssvwm_envs.memory_maze.maze import Mazes
from lssvwm_envs.memory_maze.raycaster import (
    DIMMEST,
    DIMMING,
    EYE,
    FIELD_OF_VIEW,
    LIGHT,
    OBJECT_HEIGHT,
    OBJECT_RADIUS,
    SIDE_SHADE,
    WALL_HEIGHT,
)

# Outward normals of a cell's sides, in the order of their numbers: west, east, north, south; x is right and y is down.
NORMALS = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])
SIDES, FLOOR, NUMBERS = 4, 4, 5  # sides of a cell; its floor's number; numbers per cell


def draw(mazes: Mazes, row: int, x: float, y: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """What an agent at (x, y) sees: colours (H, W, 3) float64, not rounded, and surfaces (H, W)."""
    pixels, n = mazes.config.image_size, mazes.config.size
    eye = np.array([x, y, EYE])
    rays = _rays(pixels, angle)
    faces = _faces(mazes.open_cells[row])
    centres = np.column_stack([mazes.objects[row], np.full(len(mazes.objects[row]), OBJECT_HEIGHT)])
    wall = _meet_faces(eye, rays, *faces)
    hit_face = wall.argmin(axis=1)
    floor = np.where(rays[:, 2] < 0, EYE / -np.where(rays[:, 2] < 0, rays[:, 2], -1), np.inf)
    spheres = _meet_spheres(eye, rays, centres)
    all_depths = np.column_stack([wall[np.arange(len(rays)), hit_face], floor, spheres])
    depth, kind = all_depths.min(axis=1), all_depths.argmin(axis=1)
    kind = np.where(np.isinf(depth), -1, kind)  # the sky

    # Equally spaced from the top of the picture to the horizon.
    share = (1 - rays[:, 2] / np.tan(np.radians(FIELD_OF_VIEW / 2)))[:, None]
    colors = appearance.SKY_TOP + share * (appearance.SKY_HORIZON - appearance.SKY_TOP)
    surfaces = np.full(len(rays), -1)
    points = eye + np.where(kind >= 0, depth, 0)[:, None] * rays
    light = np.maximum(DIMMEST, 1 - DIMMING * depth)

    on = kind == 0
    cells, sides = faces[0][hit_face[on]], faces[1][hit_face[on]]
    # Seen from outside, a wall's texture runs to the right: along the normal turned by a quarter to the left.
    right = np.column_stack([NORMALS[sides, 1], -NORMALS[sides, 0]])
    along = ((points[on, :2] - cells - 0.5) * right).sum(axis=1) + 0.5
    below_top = (WALL_HEIGHT - points[on, 2]) / WALL_HEIGHT
    styles = mazes.wall_styles[row, cells[:, 1] + 1, cells[:, 0] + 1, sides]
    texels = appearance.wall_textures()[styles, _texel(below_top, 8), _texel(along, 8)]
    shade = np.where(NORMALS[sides, 1] != 0, SIDE_SHADE, 1)
    colors[on] = texels * (light[on] * shade)[:, None]
    surfaces[on] = _cell_number(cells, n) + sides

    on = kind == 1
    cells = np.floor(points[on, :2]).astype(int)
    part = points[on, :2] - cells
    styles = mazes.floor_styles[row, cells[:, 1] + 1, cells[:, 0] + 1]
    colors[on] = appearance.floor_textures()[styles, _texel(part[:, 1], 4), _texel(part[:, 0], 4)] * light[on, None]
    surfaces[on] = _cell_number(cells, n) + FLOOR

    on = kind >= 2
    k = kind[on] - 2
    facing = ((points[on] - centres[k]) / OBJECT_RADIUS) @ np.array(LIGHT)
    colors[on] = appearance.OBJECT_COLORS[k] * ((0.5 + 0.5 * np.clip(facing, 0, 1)) * light[on])[:, None]
    surfaces[on] = (n + 2) ** 2 * NUMBERS + k

    colors, surfaces = colors.reshape(pixels, pixels, 3), surfaces.reshape(pixels, pixels)
    inner = np.zeros((pixels, pixels), bool)
    width = max(1, pixels // 32)
    inner[width:-width, width:-width] = True
    colors[~inner], surfaces[~inner] = appearance.OBJECT_COLORS[mazes.target[row]], -1
    return colors, surfaces


def _rays(pixels: int, angle: float) -> np.ndarray:
    """(pixels**2, 3) directions from the top left, x, y and up; one unit goes one unit into the depth."""
    place = (2 * np.arange(pixels) + 1 - pixels) / pixels * np.tan(np.radians(FIELD_OF_VIEW / 2))
    ahead = np.array([np.cos(angle), np.sin(angle), 0])
    right = np.array([-np.sin(angle), np.cos(angle), 0])
    down = np.array([0, 0, -1])
    return (ahead + place[None, :, None] * right + place[:, None, None] * down).reshape(-1, 3)


def _faces(open_cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every side of every wall cell, the wall around included: cells (F, 2), x and y, and sides (F,)."""
    y, x = np.nonzero(np.pad(open_cells, 1) == 0)
    cells = np.repeat(np.column_stack([x, y]) - 1, SIDES, axis=0)
    return cells, np.tile(np.arange(SIDES), len(x))


def _meet_faces(eye: np.ndarray, rays: np.ndarray, cells: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """(rays, faces) depths, inf where a ray misses a face or comes from behind it."""
    normals = NORMALS[sides]
    axis = np.abs(normals).argmax(axis=1)
    f = np.arange(len(cells))
    plane = cells[f, axis] + (normals[f, axis] > 0)
    toward, other = rays[:, axis], rays[:, 1 - axis]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (plane - eye[axis]) / toward
        across = eye[1 - axis] + t * other - cells[f, 1 - axis]
        height = eye[2] + t * rays[:, 2:]
        hit = (toward * normals[f, axis] < 0) & (t > 0) & (across >= 0) & (across <= 1)
        hit &= (height >= 0) & (height <= WALL_HEIGHT)
    return np.where(hit, t, np.inf)


def _meet_spheres(eye: np.ndarray, rays: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(rays, K) depths at which rays enter the spheres, inf where they do not."""
    to = centres - eye
    a, b = (rays**2).sum(axis=1)[:, None], rays @ to.T
    root = b**2 - a * ((to**2).sum(axis=1) - OBJECT_RADIUS**2)
    t = (b - np.sqrt(np.maximum(root, 0))) / a
    return np.where((root > 0) & (t > 0), t, np.inf)


def _texel(place: np.ndarray, count: int) -> np.ndarray:
    return np.clip(np.floor(place * count).astype(int), 0, count - 1)


def _cell_number(cells: np.ndarray, n: int) -> np.ndarray:
    return ((cells[:, 1] + 1) * (n + 2) + cells[:, 0] + 1) * NUMBERS
