"""Twins of native mazes: what comes back into view at one moment of a walk has other walls and floors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from lssvwm_envs.explorers.maze_walks import patrol
from lssvwm_envs.explorers.mazes import MazeExplorer
from lssvwm_envs.make import image_envs
from lssvwm_envs.memory_maze.kinematics import STEP
from lssvwm_envs.memory_maze.maze import LOOK, Mazes
from lssvwm_envs.memory_maze.raycaster import FLOOR
from lssvwm_envs.paired.twins import TwinConfig, in_order, replay
from lssvwm_envs.rows import reset_mask
from lssvwm_rl.data.episode import Episode
from lssvwm_rl.data.play import Start, Step, play
from lssvwm_rl.measures.revisit import sight_ages
from lssvwm_rl.spaces import image_key


class Redecorated(VectorWrapper):
    """Native mazes with other walls and floors.

    Args:
        envs: N native mazes in their vector form.
        walls: (N, n + 2, n + 2, 4) uint8, as `Mazes.wall_styles`.
        floors: (N, n + 2, n + 2) uint8, as `Mazes.floor_styles`.
    """

    def __init__(self, envs: VectorEnv, walls: np.ndarray, floors: np.ndarray) -> None:
        super().__init__(envs)
        self.walls, self.floors, self.image = walls, floors, image_key(envs.single_observation_space)

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes as the mazes do, then decorate theirs."""
        mask = reset_mask(options, self.num_envs)  # before the environment takes it out of the options
        reseed: Any = seed  # VectorEnv takes a list as well as a number, its annotation does not say so
        observation, info = self.env.reset(seed=reseed, options=options)
        mazes = _mazes(self)
        mazes.wall_styles[mask], mazes.floor_styles[mask] = self.walls[mask], self.floors[mask]
        frames = mazes.frames()
        return (frames if self.image is None else {**observation, self.image: frames}), info


def play_maze_twins(
    env_id: str, env_kwargs: Mapping[str, Any], seeds: Sequence[int], config: TwinConfig
) -> tuple[list[Episode], list[Episode]]:
    """Episodes of mazes of these seeds, in their order, and those of their twins by the same actions.

    The walk goes along a way and back, over and over, see `maze_walks.patrol`.
    """
    make_envs = image_envs(env_id, **{**env_kwargs, "max_steps": config.steps})
    cells = max(2, round(config.away * STEP))
    shown: list[np.ndarray] = []
    envs = make_envs(len(seeds))
    try:
        walk = MazeExplorer(envs, config.seed, partial(patrol, cells=(cells, cells)))
        events = _watched(envs, play(envs, walk, [iter([seed]) for seed in seeds]), shown)
        walked = in_order(envs, events, config.vector_keys)
        styles = other_styles(_mazes(envs), np.stack(shown, axis=1), config)
        twins = Redecorated(envs, *styles)
        events = play(twins, replay(walked), [iter([seed]) for seed in seeds])
        return walked, in_order(twins, events, config.vector_keys)
    finally:
        envs.close()


def other_styles(mazes: Mazes, surfaces: np.ndarray, config: TwinConfig) -> tuple[np.ndarray, np.ndarray]:
    """Styles of walls and floors, changed where they come back into view at the moment when most pixels do.

    Args:
        mazes: N, as they were in the walks.
        surfaces: (N, T, H, W) int32, what these showed, see `Mazes.surfaces`.

    Returns:
        `wall_styles` and `floor_styles` of all mazes, as they are where nothing comes back.
    """
    walls, floors = mazes.wall_styles.copy(), mazes.floor_styles.copy()
    sides, cells = FLOOR + 1, walls.shape[1]  # surfaces are numbered by rows, columns and sides; behind are objects
    for i, shown in enumerate(surfaces):
        back = (sight_ages(shown) > config.window) & (shown < cells * cells * sides)
        moment = int(back.sum(axis=(1, 2)).argmax())
        cell, side = np.divmod(np.unique(shown[moment][back[moment]]), sides)
        y, x = np.divmod(cell, cells)
        rng, floor = np.random.default_rng([config.seed, int(mazes.seeds[i])]), side == FLOOR
        for styles, place, kinds in (
            (walls[i], (y[~floor], x[~floor], side[~floor]), len(LOOK[0])),
            (floors[i], (y[floor], x[floor]), len(LOOK[1])),
        ):
            styles[place] = (styles[place] + rng.integers(1, kinds)) % kinds
    return walls, floors


def _watched(envs: VectorEnv, events: Iterator[Start | Step], shown: list[np.ndarray]) -> Iterator[Start | Step]:
    """The same events; what the mazes show at each, (N, H, W), is added to `shown`."""
    for event in events:
        shown.append(_mazes(envs).surfaces())
        yield event


def _mazes(envs: VectorEnv) -> Mazes:
    inner: Any = envs.unwrapped
    return inner.mazes
