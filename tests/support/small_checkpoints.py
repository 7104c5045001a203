"""Small untrained checkpoints of toy environments with every kind of action space."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from lssvwm_rl.data.collect import collect
from lssvwm_rl.model.checkpoint_files import CONTEXTS
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.policy import RandomPolicy
from support.small_models import BACKBONE, awake

ACTIONS: dict[str, spaces.Space] = {
    "discrete": spaces.Discrete(3),
    "multi_discrete": spaces.MultiDiscrete([3, 2]),
    "box": spaces.Box(-1, 1, (2,), np.float32),
}
WORLDS = (*ACTIONS, "grey", "told", "hidden")
NEVER, SOMETIMES = -9.0, -0.3


class Toy(gym.Env):
    """Frames of noise: "grey" ones have one channel, and beside those of "told" stand two numbers, which are in info in
    "hidden"."""

    def __init__(self, world: str):
        self.world = world
        self.action_space = ACTIONS.get(world, ACTIONS["discrete"])
        self.image = spaces.Box(0, 255, (16, 16, 1 if world == "grey" else 3), np.uint8)
        told = spaces.Dict({"image": self.image, "told": spaces.Box(0, 1, (2,), np.float32)})
        self.observation_space: spaces.Space = told if world == "told" else self.image

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), self._inform()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self._observe(), 1.0, False, self.steps >= 6, self._inform()

    def _observe(self) -> Any:
        frame = self.np_random.integers(0, 256, self.image.shape, np.uint8)
        if isinstance(self.observation_space, spaces.Dict):
            return {"image": frame, "told": self.np_random.random(2, np.float32)}
        return frame

    def _inform(self) -> dict[str, Any]:
        return {"told": self.np_random.random(2, np.float32)} if self.world == "hidden" else {}


def save_checkpoint(
    folder: Path, world: str, seed: int = 0, kind: str = "block_ssm", ends: float = NEVER, contexts: bool = True
) -> str:
    """A model of a world, which makes up frames and rewards.

    Args:
        folder: where to.
        world: one of WORLDS.
        seed: of the weights.
        kind: of the model.
        ends: how probable the end of an episode is, a logit: NEVER, or SOMETIMES for about every fourth step.
        contexts: whether there are four episodes to start from.
    """
    torch.set_num_threads(1)
    store = collect(
        lambda n: SyncVectorEnv([lambda: Toy(world)] * n, autoreset_mode=AutoresetMode.DISABLED),
        lambda envs, seed: RandomPolicy(envs.single_action_space, seed),
        folder / (CONTEXTS if contexts else "data"),
        episodes=4,
        vector_keys=("told",) if world in ("told", "hidden") else (),
    )
    header = store.header
    config = WorldModelConfig(frame_shape=header.frame_shape, action_space=header.action_space,
        vector_size=header.vector_size, grid=(4, 4),
        backbone=replace(BACKBONE, kind=kind, blocks=(1, 4)), feature_size=12, head_width=32,
    )  # fmt: skip
    torch.manual_seed(0)
    model = WorldModel(config)
    awake(model, seed)
    torch.nn.init.constant_(model.get_parameter("continuation_head.mlp.2.bias"), ends)
    model.save_pretrained(folder)
    return str(folder)
