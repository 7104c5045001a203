"""Any Gymnasium id as an environment with one image; MiniGrid ids get what the agent sees, as RGB."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from lssvwm_rl.spaces import check_image, image_key, image_of

TILE_SIZE = 8  # pixels; smaller tiles make a key and a ball nearly alike


def make_image_env(env_id: str, **kwargs: Any) -> gym.Env:
    """Make an environment whose observation is a uint8 image (H, W, C) or a Dict with one.

    MiniGrid environments, under whatever id, give the agent's partial view as RGB, (56, 56, 3) for the usual 7x7 tiles,
    and its pose in `info`; those of `FullyObsWrapper` the whole grid.

    Raises:
        gymnasium.error.Error: if there is no such environment.
        ValueError: if its observation holds no image, or codes of MiniGrid in a form that cannot be shown. Its resets
            and steps raise it for images that are not what the environment declares.
    """
    import minigrid  # registers its ids
    from minigrid.minigrid_env import MiniGridEnv

    assert minigrid.__name__
    import_module_of(env_id)
    env = gym.make(env_id, **kwargs)
    try:
        seen = _grid_as_image(env) if isinstance(env.unwrapped, MiniGridEnv) else env
        return AsDeclared(seen, image_key(seen.observation_space))
    except ValueError:
        env.close()
        raise


def import_module_of(env_id: str, also_here: bool = False) -> None:
    """Import the module in an id "module:Name-v0", which registers the environment.

    Args:
        also_here: whether it may lie in the current folder, as for ids that somebody has typed, and not for those that
            stand in a file.

    Raises:
        gymnasium.error.Error: if there is no such module.
    """
    module, colon, _ = env_id.partition(":")
    if not colon:
        return
    here = os.getcwd()
    if also_here and here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise gym.error.Error(
            f"There is no module {error.name!r}, which {env_id} needs; go to its folder, or put that into PYTHONPATH."
        ) from error


def env_spec_json(env: gym.Env) -> str | None:
    """What an environment was made of, as JSON of its EnvSpec; None, with a warning, if it cannot be written down."""
    if env.spec is None:
        return None
    try:
        return env.spec.to_json()
    except (ValueError, TypeError) as error:  # entry points that are classes, arguments that are arrays
        warnings.warn(
            f"How {env.spec.id} is made cannot be written down ({error}), so nothing will say it; register it with "
            'entry_point="module:Class" and JSON values as arguments to change that.',
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def partial_view(env: gym.Env) -> gym.Env:
    """What the agent of a MiniGrid environment sees, as RGB, with its pose in `info`."""
    from minigrid.wrappers import ImgObsWrapper, RGBImgPartialObsWrapper

    return PoseInfo(ImgObsWrapper(RGBImgPartialObsWrapper(env, tile_size=TILE_SIZE)))


def _grid_as_image(env: gym.Env) -> gym.Env:
    """A MiniGrid environment in whatever wrappers, with pixels instead of codes for kinds and colours.

    Raises:
        ValueError: if its wrappers make other observations of codes.
    """
    from minigrid.wrappers import FullyObsWrapper, ImgObsWrapper, RGBImgObsWrapper, RGBImgPartialObsWrapper

    changed = [each for each in _wrappers(env) if each.observation_space != each.env.observation_space]
    own: Any = env.unwrapped.observation_space
    if not isinstance(own, spaces.Dict) or "image" not in own.spaces:
        return PoseInfo(env)  # a class that has changed what MiniGridEnv gives
    if not changed:
        return partial_view(env)
    if any(isinstance(each, (RGBImgObsWrapper, RGBImgPartialObsWrapper)) for each in changed):
        return PoseInfo(env)
    if all(isinstance(each, FullyObsWrapper) for each in changed):
        return PoseInfo(ImgObsWrapper(RGBImgObsWrapper(env, tile_size=TILE_SIZE)))
    if any(type(each).__module__ != "minigrid.wrappers" for each in changed):
        return PoseInfo(env)  # an observation of somebody's own
    names = ", ".join(type(each).__name__ for each in changed)
    raise ValueError(
        f"What {names} makes of {env.unwrapped} is codes, not pixels; leave that out, or put RGBImgObsWrapper or "
        "RGBImgPartialObsWrapper of minigrid.wrappers around it."
    )


def _wrappers(env: gym.Env) -> Iterator[gym.Wrapper]:
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env


def image_envs(env_id: str, **kwargs: Any) -> Callable[[int], VectorEnv]:
    """A function that makes so many environments of `make_image_env` with autoreset disabled.

    Ids with a vector form of their own give that, others a SyncVectorEnv.
    """

    def make(num_envs: int) -> VectorEnv:
        import_module_of(env_id)
        spec = gym.envs.registration.registry.get(env_id.split(":")[-1])
        # Gymnasium has no time limit around vector forms.
        if spec is not None and spec.vector_entry_point is not None and "max_episode_steps" not in kwargs:
            settings = {**kwargs, "autoreset_mode": AutoresetMode.DISABLED}
            return gym.make_vec(env_id, num_envs, vectorization_mode="vector_entry_point", **settings)
        singles = [lambda: make_image_env(env_id, **kwargs)] * num_envs
        return SyncVectorEnv(singles, autoreset_mode=AutoresetMode.DISABLED)

    return make


def single_envs(envs: VectorEnv) -> list[Any]:
    """The unwrapped environments of a SyncVectorEnv; none of a vector environment of another form."""
    inner = envs.unwrapped
    return [env.unwrapped for env in inner.envs] if isinstance(inner, SyncVectorEnv) else []


class AsDeclared(gym.Wrapper):
    """Refuses images that are not what the observation space says, in one sentence.

    Vector environments would cast them, or fail in NumPy.
    """

    def __init__(self, env: gym.Env, key: str | None):
        super().__init__(env)
        self._key, self._space = key, image_of(env.observation_space, key)

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]  # an attribute in Env, a property in Wrapper
        """That of the environment, which is the same with this around it."""
        return self.env.spec

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        check_image(image_of(observation, self._key), self._space)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        result = self.env.step(action)
        check_image(image_of(result[0], self._key), self._space)
        return result


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
