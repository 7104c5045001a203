"""Walks through mazes. They read the maze itself, which an agent does not see.

A walk is a generator of actions for one episode; it depends only on the policy's seed and the episode's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from lssvwm_envs.explorers.maze_view import Cell, MazeView
from lssvwm_envs.explorers.mazes import Walk, maze_walk
from lssvwm_envs.memory_maze.distances import distances
from lssvwm_envs.memory_maze.kinematics import ACTIONS, FORWARD, HEADINGS, LEFT, NOOP, RIGHT, STEP, TURN

LOOK_ROUND = 0.15  # of the cells on a way out


# The first in this file, which makes it what "explore" is in mazes.
@maze_walk("mixed")
def mixed(view: MazeView, rng: np.random.Generator) -> Iterator[int]:
    """One of the other walks, with a share of random actions: for training."""
    kinds: list[Walk] = [patrol, walk_back, wander, frontier, look_around, seek, restless]
    walk = kinds[rng.choice(len(kinds), p=[0.45, 0.1, 0.1, 0.05, 0.2, 0.05, 0.05])](view, rng)
    noise = rng.choice([0.0, 0.05, 0.2], p=[0.6, 0.25, 0.15])
    while True:
        yield int(rng.integers(ACTIONS)) if rng.random() < noise else next(walk)


@maze_walk("wander")
def wander(view: MazeView, rng: np.random.Generator) -> Iterator[int]:
    """Along a wall, left or right, from cell to cell; now and then straight over a crossing, or to the other wall."""
    for cell in _wandering(view, rng):
        yield from view.go(cell)


@maze_walk("frontier")
def frontier(view: MazeView, rng: np.random.Generator) -> Iterator[int]:
    """To the nearest cell that was not visited; when there is none left, all over again."""
    visited: set[Cell] = set()
    while True:
        visited.add(view.cell)
        distance = distances(view.open_cells, *view.cell)
        new = [(int(y), int(x)) for y, x in np.argwhere(distance >= 0) if (int(y), int(x)) not in visited]
        if not new:
            visited = set()
            continue
        nearest = min(distance[cell] for cell in new)
        chosen = [cell for cell in new if distance[cell] == nearest]
        for cell in view.way(chosen[int(rng.integers(len(chosen)))]):
            yield from view.go(cell)
            visited.add(view.cell)


@maze_walk("oracle")
def seek(view: MazeView, rng: np.random.Generator) -> Iterator[int]:
    """The shortest way to the object to find, and to the next: as good as one can be who knows all."""
    while True:
        target = view.target
        for cell in [*view.way(target), target]:
            for action in view.go(cell):
                yield action
                if view.target != target:
                    break
            if view.target != target:
                break
        if view.target == target:
            yield FORWARD  # it lies within reach of its cell's centre, so this does not happen twice


@maze_walk("walk-back")
def walk_back(view: MazeView, rng: np.random.Generator, steps: tuple[int, int] = (10, 40)) -> Iterator[int]:
    """Wander off for some steps, now and then turning once round, then back through the same cells, over and over.

    Args:
        steps: fewest and most of a way out.
    """
    while True:
        left, trail = int(rng.integers(steps[0], steps[1] + 1)), [view.cell]
        for action in _way_out(view, rng, trail):
            yield action
            left -= 1
            if left == 0:
                break
        for cell in reversed(trail):
            yield from view.go(cell)


@maze_walk("patrol")
def patrol(view: MazeView, rng: np.random.Generator, cells: tuple[int, int] = (2, 6), wait: int = 0) -> Iterator[int]:
    """Along a way and back, over and over, turning only at the centres of cells: exactly the same views return.

    Args:
        cells: fewest and most of the way.
        wait: steps after which the agent sets out from an end of the way; it waits for that at the last end before.
    """
    wanted, way = int(rng.integers(cells[0], cells[1] + 1)), [view.cell]
    while len(way) <= wanted:
        new = [cell for cell in view.neighbours(way[-1]) if cell not in way]
        if not new:
            break
        way.append(new[int(rng.integers(len(new)))])
    about = LEFT if rng.random() < 0.5 else RIGHT
    taken, legs = 0, [0, 0]  # steps of the last two times along the way, there and back
    while True:
        if len(legs) > 3 and taken < wait < taken + legs[-2]:
            yield from [NOOP] * (wait - taken)
            taken = wait
        legs.append(0)
        for cell in way[1:]:
            for action in _straight(view, cell, about):
                yield action
                legs[-1] += 1
        taken += legs[-1]
        way.reverse()


@maze_walk("look-around")
def look_around(view: MazeView, rng: np.random.Generator) -> Iterator[int]:
    """Turn to one side and back, or all the way round, then go on some cells, and again: the same views return soon."""
    cells = _wandering(view, rng)
    while True:
        first, second = (LEFT, RIGHT) if rng.random() < 0.5 else (RIGHT, LEFT)
        count = int(rng.integers(HEADINGS // 4, HEADINGS // 2 + 1))
        yield from [first] * count
        yield from [second] * count if rng.random() < 0.5 else [first] * (HEADINGS - count)
        for _ in range(rng.integers(1, 4)):
            yield from view.go(next(cells))


@maze_walk("restless")
def restless(view: MazeView, rng: np.random.Generator) -> Iterator[int]:
    """Random actions, each held for some steps."""
    while True:
        action = int(rng.integers(ACTIONS))
        yield from [action] * int(rng.geometric(0.4))


def _straight(view: MazeView, cell: Cell, about: int) -> Iterator[int]:
    """From the centre of a cell to that of one beside, turning first; from elsewhere as `MazeView.go`.

    `about` is the action that turns right round.
    """
    mazes, i = view.mazes, view.row
    right, down = cell[1] + 0.5 - mazes.x[i], cell[0] + 0.5 - mazes.y[i]
    if abs(math.hypot(right, down) - 1) > 1e-6 or min(abs(right), abs(down)) > 1e-6:
        yield from view.go(cell)
        return
    turns = (round(math.atan2(down, right) / TURN) - int(mazes.heading[i])) % HEADINGS
    to_right = turns < HEADINGS // 2 or (turns == HEADINGS // 2 and about == RIGHT)
    yield from [RIGHT] * turns if to_right else [LEFT] * (HEADINGS - turns)
    yield from [FORWARD] * round(1 / STEP)


def _way_out(view: MazeView, rng: np.random.Generator, trail: list[Cell]) -> Iterator[int]:
    """Actions; every cell that was reached is added to the trail."""
    for cell in _wandering(view, rng):
        if rng.random() < LOOK_ROUND:
            yield from [LEFT if rng.random() < 0.5 else RIGHT] * HEADINGS
        yield from view.go(cell)
        trail.append(cell)


def _wandering(view: MazeView, rng: np.random.Generator) -> Iterator[Cell]:
    """Cells to go to, one beside the other."""
    hand = 1 if rng.random() < 0.5 else -1
    at = view.cell
    beside = view.neighbours(at)
    came = beside[int(rng.integers(len(beside)))]
    came = (2 * at[0] - came[0], 2 * at[1] - came[1])
    while True:
        at = view.cell
        dy, dx = at[0] - came[0], at[1] - came[1]
        if abs(dy) + abs(dx) != 1:  # pushed off the way by something else
            dy, dx = 0, 1
        if rng.random() < 0.1:
            hand = -hand
        # With y down, a turn to the right of (dy, dx) is (dx, -dy).
        to_hand, straight = (hand * dx, -hand * dy), (dy, dx)
        order = [to_hand, straight, (-hand * dx, hand * dy), (-dy, -dx)]
        if rng.random() < 0.3:
            order[:2] = [straight, to_hand]
        free = view.neighbours(at)
        following = next((at[0] + a, at[1] + b) for a, b in order if (at[0] + a, at[1] + b) in free)
        came = at
        yield following
