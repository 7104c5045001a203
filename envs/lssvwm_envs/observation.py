"""What agents see of dreams and of real environments beside a world model: image, memory or both."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from lssvwm_rl.model.world_model import WorldModel

Observation = Literal["image", "memory", "both"]
Array = TypeVar("Array", np.ndarray, torch.Tensor)


def observation_space(model: WorldModel, observation: Observation) -> gym.Space:
    """Image Box uint8, memory Box float32 in [-1, 1], or a Dict of both.

    Raises:
        ValueError: for another kind of observation.
    """
    parts: dict[str, gym.Space] = {
        "image": spaces.Box(0, 255, model.config.frame_shape, np.uint8),
        "memory": spaces.Box(-1, 1, (model.readout_size,), np.float32),
    }
    if observation == "both":
        return spaces.Dict(parts)
    if observation not in parts:
        raise ValueError(f"Observation {observation!r} is unknown; use image, memory or both.")
    return parts[observation]


def make_observation(frames: Array, readout: torch.Tensor | None, observation: Observation) -> Any:
    """The observation (N, ...) of N rows, in arrays or tensors as the frames are.

    Args:
        frames: (N, H, W, C) uint8.
        readout: `Memory.readout` (N, R') of the rows; not needed for images alone.
    """
    if observation == "image":
        return frames
    assert readout is not None
    read: Any = readout.float()  # as the space says, also of a model in fp64
    read = read.cpu().numpy() if isinstance(frames, np.ndarray) else read
    return {"image": frames, "memory": read} if observation == "both" else read
