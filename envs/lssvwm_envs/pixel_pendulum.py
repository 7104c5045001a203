"""Gymnasium's Pendulum as small pictures: one frame shows the angle and the torque, but not the speed."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import AddRenderObservation, TransformAction, TransformObservation

from lssvwm_envs.checks import check_actions

OVERSAMPLED = 4  # pixels drawn per side of each one that is shown, as Pygame's edges are hard


def pixel_pendulum(image_size: int = 32) -> gym.Env:
    """`Pendulum-v1` without its time limit, whose observation is its picture (image_size, image_size, 3) uint8.

    Its steps raise gymnasium.error.InvalidAction for an action that is not in the space, where Pendulum itself clips
    torques, and takes NaN.

    Raises:
        ValueError: for less than 16 pixels.
    """
    if image_size < 16:
        raise ValueError(f"Images of {image_size!r} pixels cannot be drawn; use at least 16.")
    env = gym.make("Pendulum-v1", render_mode="rgb_array", max_episode_steps=-1)
    pendulum: Any = env.unwrapped  # whose class the registry does not tell
    pendulum.screen_dim = OVERSAMPLED * image_size
    space = gym.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
    pictures: gym.Env[np.ndarray, Any] = TransformObservation(AddRenderObservation(env), _shrunk, space)
    return TransformAction(pictures, partial(check_actions, space=env.action_space), env.action_space)


def _shrunk(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, by means of squares of `OVERSAMPLED` pixels."""
    height, width, channels = picture.shape
    squares = picture.reshape(height // OVERSAMPLED, OVERSAMPLED, width // OVERSAMPLED, OVERSAMPLED, channels)
    return np.rint(squares.mean(axis=(1, 3))).astype(np.uint8)
