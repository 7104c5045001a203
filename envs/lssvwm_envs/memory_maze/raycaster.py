"""Rendering: what the agent sees, by casting one ray per column through the grid and one per pixel at the objects.

The camera is a pinhole at the agent's centre. Lengths are in cells. A ray of column u and row v goes
`forward + u * right - v * up`, so its parameter t is the depth along the view; u and v run from -EDGE to EDGE.
"""

from __future__ import annotations

import math

import numpy as np

from lssvwm_envs.memory_maze.compiled import compiled

FIELD_OF_VIEW = 80.0  # degrees, across and down
EDGE = math.tan(math.radians(FIELD_OF_VIEW) / 2)
EYE, WALL_HEIGHT = 0.35, 0.8
OBJECT_RADIUS, OBJECT_HEIGHT = 0.18, 0.25  # of the spheres, and of their centres
LIGHT = (0.36, 0.24, 0.9)  # direction to it, of length 1.0 within a percent
DIMMEST, DIMMING = 0.4, 0.05  # brightness falls with depth
SIDE_SHADE = 0.85  # of walls across the y axis, so that corners show
WEST, EAST, NORTH, SOUTH, FLOOR = range(5)  # sides of a cell
NOTHING = -1  # surface of the sky and of the border


@compiled
def brightness(depth: float) -> float:
    """Share of its colour that a surface keeps at a depth."""
    return max(DIMMEST, 1.0 - DIMMING * depth)


@compiled
def render(
    open_cells: np.ndarray,
    wall_styles: np.ndarray,
    floor_styles: np.ndarray,
    wall_textures: np.ndarray,
    floor_textures: np.ndarray,
    sky: np.ndarray,
    colors: np.ndarray,
    x: float,
    y: float,
    angle: float,
    objects: np.ndarray,
    target: int,
    frame: np.ndarray,
    surfaces: np.ndarray | None,
) -> None:
    """Draw one frame.

    Args:
        open_cells: (n, n) uint8, 1 floor, 0 wall.
        wall_styles: (n + 2, n + 2, 4) uint8, texture of every side of every cell and of the wall around.
        floor_styles: (n + 2, n + 2) uint8.
        wall_textures, floor_textures: (styles, texels, texels, 3) float64.
        sky: (H, 3) uint8.
        colors: (objects, 3) uint8.
        x, y, angle: of the agent, in cells and radians.
        objects: (K, 2) float64.
        target: index of the object whose colour the border shows.
        frame: (H, W, 3) uint8, filled.
        surfaces: (H, W) int32, filled with what every pixel shows, see `Mazes.surfaces`; or None.
    """
    n, fx, fy = open_cells.shape[0], math.cos(angle), math.sin(angle)
    depths, bottoms = _draw_walls(open_cells, wall_styles, wall_textures, sky, x, y, fx, fy, frame, surfaces)
    _draw_floor(floor_styles, floor_textures, x, y, fx, fy, bottoms, frame, surfaces)
    for k in _far_to_near(objects, x, y):
        _draw_object(objects[k, 0] - x, objects[k, 1] - y, fx, fy, colors[k], depths, frame, surfaces, n, k)
    _draw_border(colors[target], frame, surfaces)


@compiled
def _draw_walls(
    open_cells: np.ndarray,
    wall_styles: np.ndarray,
    textures: np.ndarray,
    sky: np.ndarray,
    x: float,
    y: float,
    fx: float,
    fy: float,
    frame: np.ndarray,
    surfaces: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the walls and the sky above them; the wall's depth in every column, and the row where its floor begins."""
    H, W = frame.shape[0], frame.shape[1]
    n, texels = open_cells.shape[0], textures.shape[1]
    depths, bottoms = np.empty(W), np.empty(W, np.int64)
    for j in range(W):
        u = ((j + 0.5) / W * 2 - 1) * EDGE
        t, cx, cy, side, along = _wall(open_cells, x, y, fx - u * fy, fy + u * fx)
        texture = textures[wall_styles[cy + 1, cx + 1, side]]
        column = min(int(along * texels), texels - 1)
        light = brightness(t) * (SIDE_SHADE if side >= NORTH else 1.0)
        # Rows of the wall: EYE - WALL_HEIGHT <= v * t < EYE.
        top = max(0, math.ceil(((EYE - WALL_HEIGHT) / t / EDGE + 1) / 2 * H - 0.5))
        bottom = min(H, math.ceil((EYE / t / EDGE + 1) / 2 * H - 0.5))
        depths[j], bottoms[j] = t, bottom
        for i in range(top):
            frame[i, j, 0], frame[i, j, 1], frame[i, j, 2] = sky[i, 0], sky[i, 1], sky[i, 2]
            if surfaces is not None:
                surfaces[i, j] = NOTHING
        per_row = 2.0 / H * EDGE * t * (texels / WALL_HEIGHT)
        down = (WALL_HEIGHT - EYE + (1.0 / H - 1) * EDGE * t) * (texels / WALL_HEIGHT)
        for i in range(top, bottom):
            _paint(frame, i, j, texture[min(max(int(down + i * per_row), 0), texels - 1), column], light)
            if surfaces is not None:
                surfaces[i, j] = ((cy + 1) * (n + 2) + cx + 1) * 5 + side
    return depths, bottoms


@compiled
def _draw_floor(
    styles: np.ndarray,
    textures: np.ndarray,
    x: float,
    y: float,
    fx: float,
    fy: float,
    bottoms: np.ndarray,
    frame: np.ndarray,
    surfaces: np.ndarray | None,
) -> None:
    """Draw the floor, in every column from the row `bottoms` (W,) down."""
    H, W = frame.shape[0], frame.shape[1]
    cells, texels = styles.shape[0], textures.shape[1]
    ahead, lights = np.empty(H), np.empty(H)
    for i in range(H // 2, H):
        ahead[i] = EYE / (((i + 0.5) / H * 2 - 1) * EDGE)  # depth at which the row meets the floor
        lights[i] = brightness(ahead[i])
    for j in range(W):
        u = ((j + 0.5) / W * 2 - 1) * EDGE
        dx, dy = fx - u * fy, fy + u * fx
        for i in range(bottoms[j], H):
            px, py = x + ahead[i] * dx + 1, y + ahead[i] * dy + 1
            cx, cy = int(px), int(py)
            color = textures[styles[cy, cx], int((py - cy) * texels), int((px - cx) * texels)]
            _paint(frame, i, j, color, lights[i])
            if surfaces is not None:
                surfaces[i, j] = (cy * cells + cx) * 5 + FLOOR


@compiled
def _draw_border(color: np.ndarray, frame: np.ndarray, surfaces: np.ndarray | None) -> None:
    """Paint the border, which shows the colour of the object to find."""
    H, W = frame.shape[0], frame.shape[1]
    border = max(1, H // 32)
    for i in range(H):
        for j in range(W):
            if i < border or i >= H - border or j < border or j >= W - border:
                frame[i, j, 0], frame[i, j, 1], frame[i, j, 2] = color[0], color[1], color[2]
                if surfaces is not None:
                    surfaces[i, j] = NOTHING


@compiled
def _paint(frame: np.ndarray, i: int, j: int, color: np.ndarray, light: float) -> None:
    """Write a colour (3,) under a light, in grey levels rounded to the nearest, into a pixel."""
    frame[i, j, 0] = np.uint8(color[0] * light + 0.5)
    frame[i, j, 1] = np.uint8(color[1] * light + 0.5)
    frame[i, j, 2] = np.uint8(color[2] * light + 0.5)


@compiled
def _wall(open_cells: np.ndarray, x: float, y: float, dx: float, dy: float) -> tuple[float, int, int, int, float]:
    """Depth of the first wall along a ray, its cell, its side, and how far along the side it is hit, from the left."""
    n = open_cells.shape[0]
    cx, cy = int(math.floor(x)), int(math.floor(y))
    step_x, step_y = 1 if dx > 0 else -1, 1 if dy > 0 else -1
    per_x = abs(1.0 / dx) if dx != 0.0 else math.inf
    per_y = abs(1.0 / dy) if dy != 0.0 else math.inf
    next_x = ((cx + 1 - x) if dx > 0 else (x - cx)) * per_x if dx != 0.0 else math.inf
    next_y = ((cy + 1 - y) if dy > 0 else (y - cy)) * per_y if dy != 0.0 else math.inf
    while True:
        across_x = next_x < next_y
        if across_x:
            t = next_x
            next_x += per_x
            cx += step_x
        else:
            t = next_y
            next_y += per_y
            cy += step_y
        if cx < 0 or cy < 0 or cx >= n or cy >= n or open_cells[cy, cx] == 0:
            break
    if across_x:
        along = y + t * dy - cy
        return t, cx, cy, WEST if dx > 0 else EAST, along if dx > 0 else 1.0 - along
    along = x + t * dx - cx
    return t, cx, cy, NORTH if dy > 0 else SOUTH, 1.0 - along if dy > 0 else along


@compiled
def _far_to_near(objects: np.ndarray, x: float, y: float) -> np.ndarray:
    """Indices of the objects, the farthest first: as they are equal spheres, near ones may be drawn over far ones."""
    order = np.arange(len(objects))
    for a in range(1, len(order)):
        b = a
        while b > 0 and _squared(objects, order[b - 1], x, y) < _squared(objects, order[b], x, y):
            order[b - 1], order[b] = order[b], order[b - 1]
            b -= 1
    return order


@compiled
def _squared(objects: np.ndarray, k: int, x: float, y: float) -> float:
    return (objects[k, 0] - x) ** 2 + (objects[k, 1] - y) ** 2


@compiled
def _draw_object(
    ox: float,
    oy: float,
    fx: float,
    fy: float,
    color: np.ndarray,
    depths: np.ndarray,
    frame: np.ndarray,
    surfaces: np.ndarray | None,
    n: int,
    k: int,
) -> None:
    """Draw the sphere whose centre is at (ox, oy) from the agent, where it is nearer than the wall."""
    H, W = frame.shape[0], frame.shape[1]
    depth, right, up = ox * fx + oy * fy, oy * fx - ox * fy, OBJECT_HEIGHT - EYE
    if depth < -OBJECT_RADIUS or depth * depth + right * right + up * up <= OBJECT_RADIUS**2:
        return  # behind, or the camera is inside
    left, stop = _extent(right, depth, W)
    top, bottom = _extent(-up, depth, H)
    for j in range(left, stop):
        u = ((j + 0.5) / W * 2 - 1) * EDGE
        for i in range(top, bottom):
            v = ((i + 0.5) / H * 2 - 1) * EDGE
            a, b = 1 + u * u + v * v, depth + u * right - v * up
            inside = b * b - a * (depth * depth + right * right + up * up - OBJECT_RADIUS**2)
            if inside <= 0:
                continue
            t = (b - math.sqrt(inside)) / a
            if t <= 0 or t >= depths[j]:
                continue
            nx, ny, nz = t * (fx - u * fy) - ox, t * (fy + u * fx) - oy, -v * t - up
            lit = max(0.0, (nx * LIGHT[0] + ny * LIGHT[1] + nz * LIGHT[2]) / OBJECT_RADIUS)
            light = (0.5 + 0.5 * min(1.0, lit)) * brightness(t)
            _paint(frame, i, j, color, light)
            if surfaces is not None:
                surfaces[i, j] = (n + 2) * (n + 2) * 5 + k


@compiled
def _extent(offset: float, depth: float, pixels: int) -> tuple[int, int]:
    """Pixels start..stop, across or down, between the tangents at a sphere seen at an offset and a depth."""
    distance = math.sqrt(offset * offset + depth * depth)
    if distance <= OBJECT_RADIUS:
        return 0, pixels
    middle, half = math.atan2(offset, depth), math.asin(OBJECT_RADIUS / distance)
    limit = math.pi / 2 - 1e-6
    low, high = math.tan(min(max(middle - half, -limit), limit)), math.tan(min(max(middle + half, -limit), limit))
    start = math.floor((low / EDGE + 1) / 2 * pixels - 0.5)
    stop = math.ceil((high / EDGE + 1) / 2 * pixels - 0.5) + 1
    return int(min(max(start, 0), pixels)), int(min(max(stop, 0), pixels))
