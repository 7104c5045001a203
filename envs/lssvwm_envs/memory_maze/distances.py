"""How far the cells of a maze are from each other."""

from __future__ import annotations

import numpy as np

from lssvwm_envs.memory_maze.compiled import compiled
from lssvwm_envs.memory_maze.layout import SIDES


@compiled
def distances(open_cells: np.ndarray, y: int, x: int) -> np.ndarray:
    """Steps (n, n) int64 from every cell to (y, x); -1 where there is no way."""
    n = len(open_cells)
    distance, queue = np.full((n, n), -1), np.empty((n * n, 2), np.int64)
    distance[y, x], queue[0, 0], queue[0, 1] = 0, y, x
    head, tail = 0, 1
    while head < tail:
        v, u = queue[head]
        head += 1
        for dv, du in SIDES:
            a, b = v + dv, u + du
            if 0 <= a < n and 0 <= b < n and open_cells[a, b] and distance[a, b] < 0:
                distance[a, b] = distance[v, u] + 1
                queue[tail, 0], queue[tail, 1] = a, b
                tail += 1
    return distance
