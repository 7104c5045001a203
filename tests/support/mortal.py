"""An environment that kills the process in which it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
from minigrid.envs import MemoryEnv


class Mortal(MemoryEnv):
    """MiniGrid-MemoryS7, with seeds whose reset is the end of the process.

    Args:
        notes: folder for a file NODE-PROCESS each, with the seeds of its resets.
        once: seeds at which a process ends if no other one has come to them.
        always: seeds at which every process ends.
    """

    def __init__(self, notes: str, once: Sequence[int] = (), always: Sequence[int] = (), **kwargs: Any) -> None:
        super().__init__(size=7, max_steps=40, **kwargs)
        self.notes, self.once, self.always = Path(notes), once, always

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        known = any(str(seed) in path.read_text().split() for path in self.notes.iterdir())
        ray = sys.modules.get("ray")
        node = ray.get_runtime_context().get_node_id() if ray and ray.is_initialized() else "alone"
        with (self.notes / f"{node}-{os.getpid()}").open("a") as note:
            note.write(f"{seed}\n")
        if seed in self.always or (seed in self.once and not known):
            os._exit(1)
        return super().reset(seed=seed, options=options)


gym.register("Mortal-v0", "support.mortal:Mortal")
