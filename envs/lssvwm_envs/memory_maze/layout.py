"""Random mazes of rooms and corridors.

Rooms of odd size and the corridors between them lie on a lattice of every second cell. Corridors are grown depth first,
regions are joined by doors until all is connected, some more walls are opened so that there is more than one way round,
and half of the dead ends get a second exit.
"""

from __future__ import annotations

import numpy as np

from lssvwm_envs.memory_maze.compiled import compiled
from lssvwm_envs.memory_maze.splitmix import below, shuffle

SIDES = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])
ROOM_TRIES = 20
LOOPS = 10  # one in so many walls between cells that are connected already is opened


@compiled
def generate(rng: np.ndarray, i: int, open_cells: np.ndarray) -> None:
    """Fill `open_cells` (n, n) uint8, n odd and at least 5, with a connected maze: 1 floor, 0 wall."""
    n = open_cells.shape[0]
    region = np.zeros((n, n), np.int64)  # 0 is wall
    regions = _rooms(rng, i, region)
    regions = _corridors(rng, i, region, regions)
    _doors(rng, i, region, regions)
    _second_exits(rng, i, region)
    for y in range(n):
        for x in range(n):
            open_cells[y, x] = region[y, x] > 0


@compiled
def _rooms(rng: np.ndarray, i: int, region: np.ndarray) -> int:
    n, regions = region.shape[0], 0
    most = min(6, (n - 3) // 2)
    wanted = below(rng, i, most + 1) if n < 9 else most
    for _ in range(ROOM_TRIES):
        if regions == wanted:
            break
        larger = n >= 9
        h = 3 + 2 * below(rng, i, 2) if larger else 3
        w = 3 + 2 * below(rng, i, 2) if larger else 3
        y, x = 2 * below(rng, i, (n - h) // 2 + 1), 2 * below(rng, i, (n - w) // 2 + 1)
        if region[max(0, y - 1) : y + h + 1, max(0, x - 1) : x + w + 1].any():
            continue
        regions += 1
        region[y : y + h, x : x + w] = regions
    return regions


@compiled
def _corridors(rng: np.ndarray, i: int, region: np.ndarray, regions: int) -> int:
    n = region.shape[0]
    path, ways = np.empty((n * n, 2), np.int64), np.empty((4, 2), np.int64)
    for y0 in range(0, n, 2):
        for x0 in range(0, n, 2):
            if region[y0, x0]:
                continue
            regions += 1
            region[y0, x0] = regions
            path[0, 0], path[0, 1] = y0, x0
            length = 1
            while length:
                y, x = path[length - 1]
                count = 0
                for dy, dx in SIDES:
                    v, u = y + 2 * dy, x + 2 * dx
                    if 0 <= v < n and 0 <= u < n and region[v, u] == 0:
                        ways[count, 0], ways[count, 1] = dy, dx
                        count += 1
                if count == 0:
                    length -= 1
                    continue
                dy, dx = ways[below(rng, i, count)]
                region[y + dy, x + dx] = region[y + 2 * dy, x + 2 * dx] = regions
                path[length, 0], path[length, 1] = y + 2 * dy, x + 2 * dx
                length += 1
    return regions


@compiled
def _doors(rng: np.ndarray, i: int, region: np.ndarray, regions: int) -> None:
    n, count = region.shape[0], 0
    walls = np.empty((n * n, 4), np.int64)  # y, x, and the way to the two cells beside it
    for y in range(n):
        for x in range(n):
            if region[y, x] or (y % 2) == (x % 2):
                continue
            walls[count, 0], walls[count, 1], walls[count, 2], walls[count, 3] = y, x, y % 2, x % 2
            count += 1
    shuffle(rng, i, walls, count)
    parent = np.arange(regions + 1)
    for k in range(count):
        y, x, dy, dx = walls[k]
        a, b = _root(parent, region[y - dy, x - dx]), _root(parent, region[y + dy, x + dx])
        if a != b:
            parent[a] = b
        elif below(rng, i, LOOPS):
            continue
        region[y, x] = region[y - dy, x - dx]


@compiled
def _root(parent: np.ndarray, a: int) -> int:
    while parent[a] != a:
        a = parent[a]
    return a


@compiled
def _second_exits(rng: np.ndarray, i: int, region: np.ndarray) -> None:
    n = region.shape[0]
    ways = np.empty((4, 2), np.int64)
    for y in range(0, n, 2):
        for x in range(0, n, 2):
            exits, count = 0, 0
            for dy, dx in SIDES:
                v, u = y + 2 * dy, x + 2 * dx
                if not (0 <= v < n and 0 <= u < n):
                    continue
                if region[y + dy, x + dx]:
                    exits += 1
                else:
                    ways[count, 0], ways[count, 1] = dy, dx
                    count += 1
            if exits == 1 and count and below(rng, i, 2):
                dy, dx = ways[below(rng, i, count)]
                region[y + dy, x + dx] = region[y, x]
