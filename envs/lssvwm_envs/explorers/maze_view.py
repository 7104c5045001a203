"""What walks read of a maze, which an agent does not see."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from lssvwm_envs.explorers.registry import made_of
from lssvwm_envs.make import single_envs
from lssvwm_envs.memory_maze.distances import distances
from lssvwm_envs.memory_maze.env import MemoryMazeEnv
from lssvwm_envs.memory_maze.kinematics import (
    FORWARD,
    FORWARD_LEFT,
    FORWARD_RIGHT,
    HEADINGS,
    LEFT,
    RADIUS,
    RIGHT,
    TURN,
)
from lssvwm_envs.memory_maze.layout import SIDES
from lssvwm_envs.memory_maze.maze import Mazes
from lssvwm_envs.memory_maze.vector import MemoryMazeVectorEnv

Cell = tuple[int, int]  # y, x
ARRIVED = 0.3  # cells from the centre of a cell
SHARP = 1  # turns; sharper ones are made standing


class MazeView:
    """One row of some mazes, as a walk needs it."""

    def __init__(self, mazes: Mazes, row: int) -> None:
        self.mazes, self.row = mazes, row

    @property
    def open_cells(self) -> np.ndarray:
        """(n, n) uint8, 1 floor."""
        return self.mazes.open_cells[self.row]

    @property
    def cell(self) -> Cell:
        """Where the agent is."""
        return int(self.mazes.y[self.row]), int(self.mazes.x[self.row])

    @property
    def target(self) -> Cell:
        """Where the object to find is."""
        x, y = self.mazes.objects[self.row, self.mazes.target[self.row]]
        return int(y), int(x)

    def neighbours(self, cell: Cell) -> list[Cell]:
        """Open cells beside a cell."""
        n, (y, x) = len(self.open_cells), cell
        beside = [(y + int(dy), x + int(dx)) for dy, dx in SIDES]
        return [(v, u) for v, u in beside if 0 <= v < n and 0 <= u < n and self.open_cells[v, u]]

    def way(self, goal: Cell) -> list[Cell]:
        """Cells of a shortest way from the agent's cell, which is left out, to the goal."""
        distance = distances(self.open_cells, *goal)
        cells, cell = [], self.cell
        while cell != goal:
            cell = min(self.neighbours(cell), key=lambda c: distance[c])
            cells.append(cell)
        return cells

    def go(self, cell: Cell) -> Iterator[int]:
        """Actions that lead to the centre of a cell beside, or of the own one."""
        mazes, i = self.mazes, self.row
        before, aside = None, False
        while True:
            right, down = cell[1] + 0.5 - mazes.x[i], cell[0] + 0.5 - mazes.y[i]
            if math.hypot(right, down) < ARRIVED:
                return
            here = (round(mazes.x[i], 6), round(mazes.y[i], 6), int(mazes.heading[i]))
            # Straight against a corner, past which headings are too coarse to aim: first to the middle of the way.
            aside = (aside or here == before) and min(abs(right), abs(down)) > 0.5 - RADIUS
            before = here
            if aside:
                right, down = (0.0, down) if abs(right) > abs(down) else (right, 0.0)
            turns = (round(math.atan2(down, right) / TURN) - int(mazes.heading[i]) + HEADINGS // 2) % HEADINGS
            turns -= HEADINGS // 2
            if abs(turns) > SHARP:
                yield LEFT if turns < 0 else RIGHT
            else:
                yield FORWARD if turns == 0 else FORWARD_LEFT if turns < 0 else FORWARD_RIGHT


def are_mazes(envs: VectorEnv) -> bool:
    """Whether these are native mazes."""
    return isinstance(envs.unwrapped, MemoryMazeVectorEnv) or made_of(MemoryMazeEnv)(envs)


def maze_views(envs: VectorEnv) -> list[MazeView]:
    """One view for every sub-environment.

    Raises:
        ValueError: if these are not native mazes.
    """
    if not are_mazes(envs):
        raise ValueError(f"{envs} is not a MemoryMaze, whose explorers read the maze; use the policy 'random'.")
    inner: Any = envs.unwrapped
    if isinstance(inner, MemoryMazeVectorEnv):
        return [MazeView(inner.mazes, row) for row in range(envs.num_envs)]
    return [MazeView(env.mazes, 0) for env in single_envs(envs)]
