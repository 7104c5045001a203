"""How an agent moves: a disc that turns by fixed angles, steps forward, and slides along walls.

Headings are whole numbers of `TURN`, so that what is turned away comes back exactly. Lengths are in cells; x is to the
right and y down, and a turn to the right adds to the heading.
"""

from __future__ import annotations

import math

import numpy as np

from lssvwm_envs.memory_maze.compiled import compiled

HEADINGS = 12
TURN = 2 * math.pi / HEADINGS  # radians
STEP = 1 / 3  # a whole part of a cell, so that walks along the centres of cells come back to the same places exactly
RADIUS = 0.3  # of the agent
REACH = 0.5  # centre to centre, within which an object counts as reached
NOOP, FORWARD, LEFT, RIGHT, FORWARD_LEFT, FORWARD_RIGHT = range(6)
ACTIONS = 6
TOUCH = 1e-9  # a disc that lies against a wall does not overlap it


@compiled
def move(open_cells: np.ndarray, x: float, y: float, heading: int, action: int) -> tuple[float, float, int]:
    """Position and heading after an action: first the turn, then the step, along x and then along y.

    `open_cells` (n, n) is inside a wall; positions count from its corner, so the agent stays within
    RADIUS..n - RADIUS.
    """
    if action == LEFT or action == FORWARD_LEFT:
        heading = (heading - 1) % HEADINGS
    elif action == RIGHT or action == FORWARD_RIGHT:
        heading = (heading + 1) % HEADINGS
    if action == FORWARD or action == FORWARD_LEFT or action == FORWARD_RIGHT:
        angle = heading * TURN
        x = _slide(open_cells, x, y, STEP * math.cos(angle), True)
        y = _slide(open_cells, y, x, STEP * math.sin(angle), False)
    return x, y, heading


@compiled
def _slide(open_cells: np.ndarray, a: float, b: float, step: float, along_x: bool) -> float:
    """The coordinate `a` after a step, stopped where the agent's square touches a wall; `b` is the other one."""
    n = open_cells.shape[0]
    to = a + step
    if step == 0.0:
        return to
    front = to + RADIUS if step > 0 else to - RADIUS
    cell = math.floor(front - TOUCH if step > 0 else front + TOUCH)
    free = 0 <= cell < n
    if free:
        for side in range(math.floor(b - RADIUS + TOUCH), math.floor(b + RADIUS - TOUCH) + 1):
            if (open_cells[side, cell] if along_x else open_cells[cell, side]) == 0:
                free = False
    if free:
        return to
    return cell - RADIUS if step > 0 else cell + 1 + RADIUS
