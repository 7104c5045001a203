"""Pictures of the maze against the reference that knows no shortcuts."""

from __future__ import annotations

import numpy as np
import pytest

from lssvwm_envs.memory_maze.appearance import OBJECT_COLORS
from lssvwm_envs.memory_maze.kinematics import FORWARD, FORWARD_LEFT, FORWARD_RIGHT, RADIUS, RIGHT, TURN
from lssvwm_envs.memory_maze.maze import LOOK, MazeConfig, Mazes
from lssvwm_envs.memory_maze.raycaster import render
from support import reference_raycaster


def mazes_of(size: int, image_size: int, count: int, objects: int | None = None) -> Mazes:
    mazes = Mazes(MazeConfig(size, image_size, objects=objects), count)
    mazes.reset(np.arange(count), np.arange(count).astype(np.uint64) + np.uint64(1000 * size + image_size))
    return mazes


def drawn(mazes: Mazes, row: int, x: float, y: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    pixels = mazes.config.image_size
    frame, surfaces = np.zeros((pixels, pixels, 3), np.uint8), np.zeros((pixels, pixels), np.int32)
    render(
        mazes.open_cells[row], mazes.wall_styles[row], mazes.floor_styles[row], *LOOK, mazes._sky, OBJECT_COLORS,
        x, y, angle, mazes.objects[row], int(mazes.target[row]), frame, surfaces,
    )  # fmt: skip
    return frame, surfaces


def assert_alike(frame, surfaces, colors, reference_surfaces, where):
    wrong = np.argwhere(surfaces != reference_surfaces)
    assert not len(wrong), f"{where}: other surfaces at {wrong.tolist()}"
    error = np.abs(frame - colors).max()
    assert error <= 1, f"{where}: {error} grey levels"


def is_free(open_cells: np.ndarray, x: float, y: float) -> bool:
    corners = np.floor([(y + a, x + b) for a in (-RADIUS, RADIUS) for b in (-RADIUS, RADIUS)]).astype(int)
    return (corners >= 0).all() and (corners < len(open_cells)).all() and open_cells[corners[:, 0], corners[:, 1]].all()


def random_place(mazes: Mazes, row: int, rng: np.random.Generator) -> tuple[float, float]:
    """Anywhere an agent can be; every third one is near an object, down to inside of it."""
    while True:
        if rng.random() < 1 / 3:
            x, y = mazes.objects[row, rng.integers(mazes.config.targets)] + rng.uniform(-0.7, 0.7, 2)
        else:
            x, y = rng.uniform(0, mazes.config.size, 2)
        if is_free(mazes.open_cells[row], x, y):
            return float(x), float(y)


@pytest.mark.parametrize(
    ("size", "image_size", "poses"),
    [(5, 16, 320), (7, 16, 320), (9, 16, 240), (5, 24, 40), (7, 24, 40), (9, 24, 30), (9, 64, 10)],
)
def test_every_pixel_is_what_the_ray_meets_first(size, image_size, poses):
    rng = np.random.default_rng([size, image_size])
    mazes = mazes_of(size, image_size, 20)
    kinds = np.zeros(4)
    for pose in range(poses):
        row, angle = pose % 20, rng.uniform(-7, 7)
        x, y = random_place(mazes, row, rng)
        got = drawn(mazes, row, x, y, angle)
        colors, surfaces = reference_raycaster.draw(mazes, row, x, y, angle)
        assert_alike(*got, colors, surfaces, f"maze {row}, ({x}, {y}), angle {angle}")
        objects = surfaces >= (size + 2) ** 2 * 5
        floor = (surfaces >= 0) & (surfaces % 5 == 4) & ~objects
        kinds += [(surfaces < 0).mean(), floor.mean(), objects.mean(), ((surfaces >= 0) & ~floor & ~objects).mean()]
    assert (kinds / poses > [0.1, 0.1, 0.01, 0.1]).all(), "poses that show sky, floor, objects and walls"


def test_frames_and_surfaces_of_played_mazes():
    """Here agents lie against walls and look straight along them; all six objects, and a border of two pixels."""
    rng = np.random.default_rng(0)
    rows = np.arange(3)
    for size, image_size, steps in ((7, 16, 60), (9, 32, 20)):
        mazes = mazes_of(size, image_size, 3, objects=6)
        for step in range(steps):
            actions = rng.choice([FORWARD, FORWARD_LEFT, FORWARD_RIGHT, RIGHT], 3, p=[0.6, 0.15, 0.15, 0.1])
            mazes.step(rows, actions)
            frames, surfaces = mazes.frames(), mazes.surfaces()
            for i in rows:
                place = mazes.x[i], mazes.y[i], mazes.heading[i] * TURN
                assert_alike(
                    frames[i], surfaces[i], *reference_raycaster.draw(mazes, i, *place), f"maze {i}, step {step}"
                )


def test_the_camera_sees_no_object_from_inside():
    mazes = mazes_of(7, 16, 1)
    x, y = mazes.objects[0, 0]
    mazes.x[0], mazes.y[0] = x + 0.05, y
    assert (7 + 2) ** 2 * 5 not in mazes.surfaces()


def test_the_border_shows_what_to_find():
    mazes = mazes_of(9, 64, 8)
    for frame, target in zip(mazes.frames(), mazes.target, strict=True):
        border = np.ones((64, 64), bool)
        border[2:-2, 2:-2] = False
        assert (frame[border] == OBJECT_COLORS[target]).all()
