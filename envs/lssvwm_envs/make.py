"""Any Gymnasium id as an environment with one image; MiniGrid ids get what the agent sees, as RGB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from lssvwm_rl.spaces import image_key

TILE_SIZE = 8  # pixels; smaller tiles make a key and a ball nearly alike


def make_image_env(env_id: str, **kwargs: Any) -> gym.Env:
    """Make an environment whose observation is a uint8 image (H, W, C) or a Dict with one.

    MiniGrid ids give the agent's partial view as RGB, (56, 56, 3) for the usual 7x7 tiles, and its pose in `info`.

    Raises:
        gymnasium.error.Error: if there is no such environment.
        ValueError: if its observation holds no image.
    """
    if _is_minigrid(env_id):
        import minigrid  # registers its ids

        assert minigrid.__name__
        return partial_view(gym.make(env_id, **kwargs))
    env = gym.make(env_id, **kwargs)
    try:
        image_key(env.observation_space)
    except ValueError:
        env.close()
        raise
    return env


def partial_view(env: gym.Env) -> gym.Env:
    """What the agent of a MiniGrid environment sees, as RGB, with its pose in `info`."""
    from minigrid.wrappers import ImgObsWrapper, RGBImgPartialObsWrapper

    return PoseInfo(ImgObsWrapper(RGBImgPartialObsWrapper(env, tile_size=TILE_SIZE)))


def image_envs(env_id: str, **kwargs: Any) -> Callable[[int], VectorEnv]:
    """A function that makes so many environments of `make_image_env` with autoreset disabled.

    Ids with a vector form of their own give that, others a SyncVectorEnv.
    """

    def make(num_envs: int) -> VectorEnv:
        spec = gym.envs.registration.registry.get(env_id)
        if spec is not None and spec.vector_entry_point is not None and not _is_minigrid(env_id):
            settings = {**kwargs, "autoreset_mode": AutoresetMode.DISABLED}
            return gym.make_vec(env_id, num_envs, vectorization_mode="vector_entry_point", **settings)
        singles = [lambda: make_image_env(env_id, **kwargs)] * num_envs
        return SyncVectorEnv(singles, autoreset_mode=AutoresetMode.DISABLED)

    return make


def single_envs(envs: VectorEnv) -> list[Any]:
    """The unwrapped environments of a SyncVectorEnv; none of a vector environment of another form."""
    inner = envs.unwrapped
    return [env.unwrapped for env in inner.envs] if isinstance(inner, SyncVectorEnv) else []


def _is_minigrid(env_id: str) -> bool:
    name = env_id.split(":")[-1].split("/")[-1]
    return name.startswith(("MiniGrid", "BabyAI-"))


class PoseInfo(gym.Wrapper):
    """Adds info["pose"]: float32 (x / width, y / height, cos, sin) of a MiniGrid agent."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, {**info, "pose": self._pose()}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, {**info, "pose": self._pose()}

    def _pose(self) -> np.ndarray:
        grid_env: Any = self.env.unwrapped
        x, y = grid_env.agent_pos
        angle = grid_env.agent_dir * np.pi / 2
        return np.array([x / grid_env.width, y / grid_env.height, np.cos(angle), np.sin(angle)], np.float32)
