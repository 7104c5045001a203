"""Random mazes: all of it can be walked, and there are rooms, corridors and ways round."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from lssvwm_envs.memory_maze.kinematics import HEADINGS
from lssvwm_envs.memory_maze.maze import MazeConfig, Mazes

COUNT = 300


@pytest.mark.parametrize("size", [5, 7, 9, 11, 13, 15, 41])
def test_layouts(size):
    mazes = Mazes(MazeConfig(size, objects=6), COUNT)
    mazes.reset(np.arange(COUNT), np.arange(COUNT).astype(np.uint64) + np.uint64(size))
    rooms = corridors = loops = dead_ends = 0
    for i in range(COUNT):
        floor = mazes.open_cells[i] == 1
        assert set(np.unique(mazes.open_cells[i])) == {0, 1}
        assert ndimage.label(floor)[1] == 1, "every floor cell is reached from every other"
        places = [tuple(place) for place in [*mazes.objects[i], (mazes.x[i], mazes.y[i])]]
        assert len(set(places)) == 7, "objects lie apart from each other and from the agent"
        assert all(x % 1 == y % 1 == 0.5 and floor[int(y), int(x)] for x, y in places)
        assert 0 <= mazes.target[i] < 6 and 0 <= mazes.heading[i] < HEADINGS
        padded = np.pad(floor, 1)
        west, east, north, south = padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]
        beside = west.astype(int) + east + north + south
        rooms += ndimage.binary_erosion(floor, np.ones((3, 3)), border_value=0).any()
        corridors += (floor & (beside == 2) & ((west & east) | (north & south))).any()
        dead_ends += (floor & (beside == 1)).any()
        # A maze without a way round is a tree; squares of four floor cells, as in rooms, are no way round.
        edges = (floor[1:] & floor[:-1]).sum() + (floor[:, 1:] & floor[:, :-1]).sum()
        squares = (floor[1:, 1:] & floor[:-1, 1:] & floor[1:, :-1] & floor[:-1, :-1]).sum()
        loops += edges - floor.sum() + 1 - squares > 0
    assert len(np.unique(mazes.open_cells, axis=0)) > (80 if size == 5 else COUNT / 2)
    assert corridors == COUNT if size >= 9 else corridors > COUNT / 2
    assert rooms == COUNT if size >= 9 else 5 <= rooms < COUNT
    assert loops > COUNT / 4 and dead_ends > COUNT / 4


def test_every_colour_direction_and_texture_occurs():
    mazes = Mazes(MazeConfig(9), 200)
    mazes.reset(np.arange(200), np.arange(200).astype(np.uint64))
    assert set(mazes.target) == set(range(3)) and set(mazes.heading) == set(range(HEADINGS))
    assert len(np.unique(mazes.wall_styles[0])) == 8 and len(np.unique(mazes.floor_styles[0])) == 4
    assert {(x, y) for x, y in mazes.objects.reshape(-1, 2)} >= {(x + 0.5, y + 0.5) for x in (0, 8) for y in (0, 8)}
