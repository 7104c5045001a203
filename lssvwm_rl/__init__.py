"""Gymnasium-compatible world models with long memory. Importing this registers its ids; it is light."""

from __future__ import annotations

import importlib
from typing import Any

from gymnasium.envs.registration import register

__version__ = "0.1.0"

# Strings, so that the lowest floor imports nothing that stands on it. For type checkers see __init__.pyi.
_HOMES = {
    "DreamEnv": "lssvwm_envs.dream.env",
    "DreamVectorEnv": "lssvwm_envs.dream.vector",
    "EpisodeStore": "lssvwm_rl.data.store",
    "Memory": "lssvwm_rl.model.memory",
    "MemoryObservation": "lssvwm_envs.wrappers",
    "PlannerPolicy": "lssvwm_agents.planning",
    "WorldModel": "lssvwm_rl.model.world_model",
    "collect": "lssvwm_rl.data.collect",
    "load_world_model": "lssvwm_rl.model.checkpoints",
    "register_checkpoint": "lssvwm_envs",
    "train": "lssvwm_rl.training.trainer",
}
__all__ = sorted(_HOMES)

register(
    id="lssvwm/Dream-v0",
    entry_point="lssvwm_envs.dream.env:DreamEnv",
    vector_entry_point="lssvwm_envs.dream.vector:DreamVectorEnv",
)
register(id="lssvwm/MiniGridRecall-v0", entry_point="lssvwm_envs.minigrid.recall:MiniGridRecall")
register(
    id="lssvwm/Reacher-v0",
    entry_point="lssvwm_envs.reacher.env:ReacherEnv",
    vector_entry_point="lssvwm_envs.reacher.vector:ReacherVectorEnv",
)
register(id="lssvwm/PixelPendulum-v0", entry_point="lssvwm_envs.pixel_pendulum:pixel_pendulum", max_episode_steps=200)
for _size in (5, 7, 9, 11, 13, 15):
    for _variant, _extra_obs in (("", False), ("-ExtraObs", True)):
        register(
            id=f"lssvwm/MemoryMaze-{_size}x{_size}{_variant}-v0",
            entry_point="lssvwm_envs.memory_maze.env:MemoryMazeEnv",
            vector_entry_point="lssvwm_envs.memory_maze.vector:MemoryMazeVectorEnv",
            kwargs={"size": _size, "extra_obs": _extra_obs},
        )
for _size in (9, 11, 13, 15):
    register(
        id=f"lssvwm/DMMemoryMaze-{_size}x{_size}-v0",
        entry_point="lssvwm_envs.dm_memory_maze:DMMemoryMaze",
        kwargs={"size": _size},
    )


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
