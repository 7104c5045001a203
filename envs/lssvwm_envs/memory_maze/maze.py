"""Many mazes at once: the task itself, without Gymnasium. Single and vector environment are thin shells around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lssvwm_envs.memory_maze import appearance
from lssvwm_envs.memory_maze.compiled import compiled
from lssvwm_envs.memory_maze.kinematics import HEADINGS, REACH, TURN, move
from lssvwm_envs.memory_maze.layout import generate
from lssvwm_envs.memory_maze.raycaster import render
from lssvwm_envs.memory_maze.splitmix import below, shuffle

MIN_SIZE, MIN_IMAGE = 5, 16
LOOK = (appearance.wall_textures(), appearance.floor_textures())


@dataclass(frozen=True)
class MazeConfig:
    """The task's settings.

    Attributes:
        size: cells per side, odd.
        image_size: pixels per side.
        max_steps: until truncation; by default 250 and 500 for sizes 5 and 7, then as published: 1,000 for 9, 1,000
            more for every next odd size.
        objects: coloured spheres; by default 3 for sizes to 9, then one more for every next odd size, at most 6.

    Raises:
        ValueError: if one does not fit.
    """

    size: int = 9
    image_size: int = 64
    max_steps: int | None = None
    objects: int | None = None

    def __post_init__(self) -> None:
        most = len(appearance.OBJECT_COLORS)
        if not _is_whole(self.size) or self.size < MIN_SIZE or self.size % 2 == 0:
            raise ValueError(f"A maze of size {self.size!r} cannot be built; use an odd size of at least {MIN_SIZE}.")
        if not _is_whole(self.image_size) or self.image_size < MIN_IMAGE or self.image_size % 2:
            raise ValueError(
                f"Images of {self.image_size!r} pixels cannot be drawn; use an even image_size of at least {MIN_IMAGE}."
            )
        if self.max_steps is not None and (not _is_whole(self.max_steps) or self.max_steps < 1):
            raise ValueError(f"max_steps must be a whole number of at least 1, got {self.max_steps!r}.")
        if self.objects is not None and (not _is_whole(self.objects) or not 2 <= self.objects <= most):
            raise ValueError(f"There can be 2 to {most} objects, one per colour, not {self.objects!r}.")

    @property
    def steps(self) -> int:
        """Steps of an episode."""
        if self.max_steps is not None:
            return self.max_steps
        return {5: 250, 7: 500}.get(self.size, 500 * (self.size - 7))

    @property
    def targets(self) -> int:
        """Number of objects K."""
        most = len(appearance.OBJECT_COLORS)
        return min(most, max(3, (self.size - 3) // 2)) if self.objects is None else self.objects


@dataclass(frozen=True)
class Mazes:
    """N mazes of one config; the arrays are changed in place.

    Attributes:
        open_cells: (N, n, n) uint8, 1 floor, 0 wall; rows are y.
        x, y: (N,) float64 in cells, from the corner of the maze.
        heading: (N,) int64, in turns of `kinematics.TURN`.
        objects: (N, K, 2) float64, x and y.
        target: (N,) int64, the object to find next.
        steps: (N,) int64 since the reset.
        seeds: (N,) uint64, of the running episodes.
        wall_styles: (N, n + 2, n + 2, 4) uint8, the texture of every side of every cell, the wall around included.
        floor_styles: (N, n + 2, n + 2) uint8.
    """

    config: MazeConfig
    num_envs: int
    open_cells: np.ndarray = field(init=False)
    x: np.ndarray = field(init=False)
    y: np.ndarray = field(init=False)
    heading: np.ndarray = field(init=False)
    objects: np.ndarray = field(init=False)
    target: np.ndarray = field(init=False)
    steps: np.ndarray = field(init=False)
    seeds: np.ndarray = field(init=False)
    wall_styles: np.ndarray = field(init=False)
    floor_styles: np.ndarray = field(init=False)
    _rng: np.ndarray = field(init=False)
    _sky: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        N, n, K = self.num_envs, self.config.size, self.config.targets
        arrays = {
            "open_cells": np.zeros((N, n, n), np.uint8),
            "x": np.zeros(N),
            "y": np.zeros(N),
            "heading": np.zeros(N, np.int64),
            "objects": np.zeros((N, K, 2)),
            "target": np.zeros(N, np.int64),
            "steps": np.zeros(N, np.int64),
            "seeds": np.zeros(N, np.uint64),
            "wall_styles": np.zeros((N, n + 2, n + 2, 4), np.uint8),
            "floor_styles": np.zeros((N, n + 2, n + 2), np.uint8),
            "_rng": np.zeros(N, np.uint64),
            "_sky": _sky(self.config.image_size),
        }
        for name, array in arrays.items():
            object.__setattr__(self, name, array)

    def reset(self, rows: np.ndarray, seeds: np.ndarray) -> None:
        """Begin new episodes in `rows` (M,) int64; an episode is a function of its seed (M,) uint64."""
        self._rng[rows] = self.seeds[rows] = seeds
        self.steps[rows] = 0
        _begin(
            rows, self._rng, self.open_cells, self.wall_styles, self.floor_styles, self.x, self.y, self.heading,
            self.objects, self.target, len(LOOK[0]), len(LOOK[1]),
        )  # fmt: skip

    def step(self, rows: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Act in `rows` (M,) int64 by actions (N,) int64 in 0..5; rewards (N,) float64, 0 in other rows."""
        rewards = np.zeros(self.num_envs)
        self.steps[rows] += 1
        _act(
            rows, actions, self._rng, self.open_cells, self.x, self.y, self.heading, self.objects, self.target, rewards
        )
        return rewards

    def truncated(self) -> np.ndarray:
        """(N,) bool, episodes that have had all their steps."""
        return self.steps >= self.config.steps

    def frames(self) -> np.ndarray:
        """First-person frames (N, H, W, 3) uint8, a new array."""
        frames = np.empty((self.num_envs, self.config.image_size, self.config.image_size, 3), np.uint8)
        _draw(*self._scene(), frames, None)  # type: ignore[call-arg]
        return frames

    def surfaces(self) -> np.ndarray:
        """What every pixel shows, (N, H, W) int32: a number for each side of a wall cell, each floor cell and each
        object, -1 for the sky and the border. The same surface has the same number for a whole episode.
        """
        shape = (self.num_envs, self.config.image_size, self.config.image_size)
        surfaces = np.empty(shape, np.int32)
        _draw(*self._scene(), np.empty((*shape, 3), np.uint8), surfaces)  # type: ignore[call-arg]
        return surfaces

    def info(self) -> dict[str, np.ndarray]:
        """What is hidden from the agent, each with N rows.

        agent_pos (2,) and targets_pos (K, 2) float32 in cells, x and y; agent_dir (2,) float32, its unit vector;
        maze_layout (n, n) uint8, 1 floor, 0 wall; target, index of the object to find, and target_color (3,) float32 in
        [0, 1]; pose (4,) float32: (x / n, y / n, cos, sin).
        """
        position = np.stack([self.x, self.y], axis=1)
        angle = self.heading * TURN
        direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return {
            "agent_pos": position.astype(np.float32),
            "agent_dir": direction.astype(np.float32),
            "maze_layout": self.open_cells.copy(),
            "targets_pos": self.objects.astype(np.float32),
            "target": self.target.copy(),
            "target_color": (appearance.OBJECT_COLORS[self.target] / 255).astype(np.float32),
            "pose": np.concatenate([position / self.config.size, direction], axis=1).astype(np.float32),
        }

    def _scene(self) -> tuple[Any, ...]:
        return (
            self.open_cells, self.wall_styles, self.floor_styles, *LOOK, self._sky, appearance.OBJECT_COLORS,
            self.x, self.y, self.heading, self.objects, self.target,
        )  # fmt: skip


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _sky(image_size: int) -> np.ndarray:
    """(H, 3) uint8; below the horizon it is never seen."""
    height = np.minimum(1.0, (np.arange(image_size) + 0.5) / image_size * 2)[:, None]
    return (appearance.SKY_TOP * (1 - height) + appearance.SKY_HORIZON * height + 0.5).astype(np.uint8)


@compiled
def _begin(
    rows: np.ndarray,
    rng: np.ndarray,
    open_cells: np.ndarray,
    wall_styles: np.ndarray,
    floor_styles: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    heading: np.ndarray,
    objects: np.ndarray,
    target: np.ndarray,
    wall_kinds: int,
    floor_kinds: int,
) -> None:
    """Build the mazes of `rows` and place the agents and the objects, from the streams `rng` (N,) uint64."""
    n, K = open_cells.shape[1], objects.shape[1]
    free = np.empty((n * n, 2), np.int64)
    for i in rows:
        generate(rng, i, open_cells[i])
        for v in range(n + 2):
            for u in range(n + 2):
                floor_styles[i, v, u] = below(rng, i, floor_kinds)
                for side in range(4):
                    wall_styles[i, v, u, side] = below(rng, i, wall_kinds)
        count = 0
        for v in range(n):
            for u in range(n):
                if open_cells[i, v, u]:
                    free[count, 0], free[count, 1] = v, u
                    count += 1
        shuffle(rng, i, free, count)
        y[i], x[i] = free[0, 0] + 0.5, free[0, 1] + 0.5
        heading[i] = below(rng, i, HEADINGS)
        for k in range(K):
            objects[i, k, 1], objects[i, k, 0] = free[k + 1, 0] + 0.5, free[k + 1, 1] + 0.5
        target[i] = below(rng, i, K)


@compiled
def _act(
    rows: np.ndarray,
    actions: np.ndarray,
    rng: np.ndarray,
    open_cells: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    heading: np.ndarray,
    objects: np.ndarray,
    target: np.ndarray,
    rewards: np.ndarray,
) -> None:
    """Move the agents of `rows`; who reaches the object to find gets a reward of 1 and another one to find."""
    K = objects.shape[1]
    for i in rows:
        x[i], y[i], heading[i] = move(open_cells[i], x[i], y[i], heading[i], actions[i])
        k = target[i]
        if (objects[i, k, 0] - x[i]) ** 2 + (objects[i, k, 1] - y[i]) ** 2 < REACH * REACH:
            rewards[i] = 1.0
            target[i] = (k + 1 + below(rng, i, K - 1)) % K  # any other


@compiled
def _draw(
    open_cells: np.ndarray,
    wall_styles: np.ndarray,
    floor_styles: np.ndarray,
    wall_textures: np.ndarray,
    floor_textures: np.ndarray,
    sky: np.ndarray,
    colors: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    heading: np.ndarray,
    objects: np.ndarray,
    target: np.ndarray,
    frames: np.ndarray,
    surfaces: np.ndarray | None,
) -> None:
    """Draw every maze, as `render` does one."""
    for i in range(len(frames)):
        render(
            open_cells[i], wall_styles[i], floor_styles[i], wall_textures, floor_textures, sky, colors, x[i], y[i],
            heading[i] * TURN, objects[i], target[i], frames[i], None if surfaces is None else surfaces[i],
        )  # fmt: skip
