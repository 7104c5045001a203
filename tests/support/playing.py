"""Playing environments, single and vector ones, and comparing what they return."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.vector import DreamVectorEnv


def play(env: Any, steps: int, seed: int | None = 0) -> list[Any]:
    """What a reset and steps return; episodes that end are begun anew where the environment does not do it itself."""
    if seed is not None:
        env.action_space.seed(seed)
    returned = [env.reset(seed=seed)]
    for _ in range(steps):
        returned.append(env.step(env.action_space.sample()))
        ended = np.logical_or(*returned[-1][2:4])
        if ended.any() and isinstance(env.unwrapped, gym.Env):
            returned.append(env.reset())
        elif ended.any() and env.unwrapped.metadata["autoreset_mode"] == AutoresetMode.DISABLED:
            returned.append(env.reset(options={"reset_mask": ended}))
    return returned


class ByMemory:
    """Acts by a random projection of the memory, and keeps what it read.

    Args:
        size: numbers of a readout.
        actions: of a Discrete space.
    """

    def __init__(self, size: int, actions: int):
        self.weights, self.read = np.random.default_rng(0).standard_normal((size, actions)), []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        self.read.append(observation.copy())
        return (observation @ self.weights).argmax(1), state


def leaves(value: Any) -> list[Any]:
    """Everything inside of tuples, lists, dicts and arrays of objects; other arrays are whole."""
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in leaves(part)]
    if isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.dtype == object):
        return [leaf for part in value for leaf in leaves(part)]
    return [value]


def assert_same(a: Any, b: Any) -> None:
    """Types and numbers."""
    a, b = leaves(a), leaves(b)
    assert len(a) == len(b) > 0
    assert all(type(x) is type(y) and np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def in_the_middle(checkpoint: str, **settings: Any) -> tuple[Any, Any]:
    """A single and a vector environment in the middle of dreams."""
    envs = DreamEnv(checkpoint, denoise_steps=1, **settings), DreamVectorEnv(checkpoint, 2, denoise_steps=1, **settings)
    for env in envs:
        play(env, 1)
    return envs


def assert_goes_on_alike(env: Any, twin: Any) -> None:
    """Errors have changed nothing in `env`: it steps like its twin, and draws the same contexts and noise."""
    action = twin.action_space.sample()
    for each in (twin.step(action), twin.reset(), twin.step(action)):
        assert_same(env.reset() if len(each) == 2 else env.step(action), each)
