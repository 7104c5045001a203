"""Reacher's arm as if it were a world model: dreams that are exactly what happens."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from lssvwm_envs.reacher.arms import distances, draw_arms, turned
from lssvwm_rl.model.flow import Noise
from lssvwm_rl.model.memory import LayerMemory, Memory
from lssvwm_rl.model.outputs import Imagined
from lssvwm_rl.spaces import space_to_json


def arm_memory(angles: np.ndarray, targets: np.ndarray) -> Memory:
    """A memory (N) that holds joint angles (N, 2) and targets (N, 2) and nothing else."""
    none = torch.empty(len(angles), 0)
    features = torch.from_numpy(np.concatenate([angles, targets], axis=1))
    return Memory((LayerMemory(none, none, none),), features, torch.ones(len(angles), dtype=torch.int64))


class ArmEngine:
    """What the dynamics ask of an engine, computed from the joints."""

    def __init__(self, pixels: int = 32) -> None:
        action_space = space_to_json(spaces.Box(-1, 1, (2,), np.float32))
        config = SimpleNamespace(action_space=action_space, frame_shape=(pixels, pixels, 3))
        self.model: Any = SimpleNamespace(device=torch.device("cpu"), config=config)
        self.name, self.pixels = "arm", pixels
        self.rows: list[int] = []

    def draw(self, generators: Sequence[torch.Generator]) -> Tensor:
        return torch.zeros(len(generators), 1)

    def imagine(
        self, memory: Memory, action: Tensor, noise: Noise, denoise_steps: int = 4, vector: Tensor | None = None
    ) -> Imagined:
        self.rows.append(memory.batch_size)
        angles, targets = memory.features.numpy()[:, :2], memory.features.numpy()[:, 2:]
        angles = turned(angles, action.numpy())
        reward = torch.from_numpy(-distances(angles, targets))
        frame = torch.from_numpy(draw_arms(angles, targets, self.pixels))
        rewards, none = reward[:, None].expand(-1, 2), torch.zeros_like(reward)
        return Imagined(frame, None, rewards, none, arm_memory(angles, targets), none)
