"""Pairs of histories, recorded in twin worlds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
from minigrid.envs import MemoryEnv

from lssvwm_envs.make import make_image_env
from lssvwm_envs.memory_maze.env import MemoryMazeEnv
from lssvwm_envs.paired.mazes import play_maze_twins
from lssvwm_envs.paired.memory_rooms import play_room_twins
from lssvwm_envs.paired.twins import TwinConfig
from lssvwm_rl.data.episode import Episode
from lssvwm_rl.data.pairs import Pair, cut_pairs
from lssvwm_rl.data.splits import split_seed

PlayTwins = Callable[
    [str, Mapping[str, Any], Sequence[int], TwinConfig],
    tuple[list[Episode], list[Episode]],
]
"""Plays an environment, by id and arguments, in the worlds of some seeds, and their twins by the same actions."""
TWINS: dict[type[gym.Env], PlayTwins] = {MemoryEnv: play_room_twins, MemoryMazeEnv: play_maze_twins}


def record_pairs(
    env_id: str,
    env_kwargs: Mapping[str, Any],
    worlds: int,
    config: TwinConfig | None = None,
    first: int = 0,
    split: str = "test",
) -> list[Pair]:
    """Play worlds of a split and their twins side by side, and keep what makes pairs, at most two of each world.

    Args:
        env_id: of MiniGrid-Memory or a native maze.
        env_kwargs: its arguments.
        worlds: how many are played.
        first: the first world, counted inside the split.

    Raises:
        ValueError: if there are no twins of such environments, or for a number out of range.
        gymnasium.error.Error: if there is no such environment.
    """
    config = config or TwinConfig()
    if worlds < 1:
        raise ValueError(f"Pairs need at least 1 world to be played, not {worlds}.")
    seeds = [split_seed(split, first + i) for i in range(worlds)]
    pairs = zip(*play_twins_of(env_id, env_kwargs)(env_id, env_kwargs, seeds, config), strict=True)
    return [pair for one, other in pairs for pair in cut_pairs(one, other, config.window)]


def play_twins_of(env_id: str, env_kwargs: Mapping[str, Any]) -> PlayTwins:
    """What plays the twins of such environments.

    Raises:
        ValueError: if nothing does.
        gymnasium.error.Error: if there is no such environment.
    """
    with make_image_env(env_id, **env_kwargs) as env:
        found = next((play for kind, play in TWINS.items() if isinstance(env.unwrapped, kind)), None)
    if found is None:
        raise ValueError(f"{env_id} has no twins that differ in one thing; use MiniGrid-Memory or a native MemoryMaze.")
    return found
