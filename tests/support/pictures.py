"""An environment whose image lies wherever, and however, somebody put it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

LENGTH = 4


class Pictures(gym.Env):
    """Frames of noise that the seed decides.

    Args:
        shapes: of the uint8 images, by key; one without a key is the observation itself.
        length: of episodes.
        levels: how many seeds there are; all if None.
    """

    def __init__(self, shapes: Any = (16, 12, 3), length: int = LENGTH, levels: int | None = None):
        self.length, self.levels = length, levels
        boxes = (
            {k: spaces.Box(0, 255, tuple(s), np.uint8) for k, s in shapes.items()} if isinstance(shapes, dict) else {}
        )
        self.observation_space = (
            spaces.Dict({**boxes, "speed": spaces.Box(-9, 9, (2,), np.float32)})
            if boxes
            else spaces.Box(0, 255, tuple(shapes), np.uint8)
        )
        self.action_space = spaces.Discrete(3)
        self.asked: list[int | None] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        self.asked.append(seed)
        if seed is not None and self.levels is not None:
            _ = range(self.levels)[seed]  # IndexError where there is no such level
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action: Any):
        self.t += 1
        return self._observe(), float(self.t == self.length), False, self.t >= self.length, {}

    def _observe(self) -> Any:
        own = self.observation_space
        if isinstance(own, spaces.Dict):
            noise = {k: self._noise(s.shape) for k, s in own.items() if k != "speed"}
            return {**noise, "speed": np.full(2, self.t, np.float32)}
        return self._noise(own.shape)

    def _noise(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.np_random.integers(0, 256, shape, np.uint8)
