"""Any Gymnasium id as an environment with one image; MiniGrid ids get what the agent sees, as RGB."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from lssvwm_envs.image import AsChoices, AsImage
from lssvwm_envs.levels import GivenSeeds
from lssvwm_rl.spaces import action_layout, space_to_json

TILE_SIZE = 8  # pixels; smaller tiles make a key and a ball nearly alike


@dataclass(frozen=True)
class EnvSetup:
    """All that decides an environment with one image: which one it is, its arguments, and what is put around it."""

    env_id: str
    """Of Gymnasium."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Of `gymnasium.make`: the environment's own, and perhaps `max_episode_steps`."""
    image: str | None = None
    """See `AsImage`."""
    resize: tuple[int, int] | None = None
    """See `AsImage`."""
    seeds: tuple[str, ...] = ()
    """See `GivenSeeds`; none for those of the splits."""

    def make(self, **more: Any) -> gym.Env:
        """The environment, with more arguments if wanted.

        MiniGrid environments, under whatever id, give the agent's partial view as RGB, (56, 56, 3) for the usual 7x7
        tiles, and its pose in `info`; those of `FullyObsWrapper` the whole grid.

        Raises:
            gymnasium.error.Error: if there is no such environment.
            ValueError: if its observation holds no image, or codes of MiniGrid in a form that cannot be shown, its
                actions cannot be learnt, or it takes no such arguments. Its resets and steps raise it for images that
                are not what the environment declares.
        """
        import minigrid  # registers its ids
        from minigrid.minigrid_env import MiniGridEnv

        assert minigrid.__name__
        import_module_of(self.env_id)
        try:
            env = gym.make(self.env_id, **{**self.kwargs, **more})
        except TypeError as error:
            named = ", ".join({**self.kwargs, **more}) or "no arguments"
            raise ValueError(f"{self.env_id} cannot be made with {named} ({error}); see --env-kwargs.") from error
        try:
            seen = _grid_as_image(env) if isinstance(env.unwrapped, MiniGridEnv) else env
            action_layout(seen.action_space)
            space_to_json(seen.action_space)
            seen = AsChoices(seen) if isinstance(seen.action_space, spaces.MultiBinary) else seen
            seen = AsImage(seen, self.image, self.resize)
            return GivenSeeds(seen, self.seeds) if self.seeds else seen
        except ValueError:
            env.close()
            raise

    def make_many(self, num_envs: int) -> VectorEnv:
        """So many with autoreset disabled: in the id's own vector form, or as SyncVectorEnv.

        Raises:
            gymnasium.error.Error, ValueError: as `make`.
        """
        import_module_of(self.env_id)
        spec = gym.envs.registration.registry.get(self.env_id.split(":")[-1])
        around = self.image is not None or self.resize is not None or bool(self.seeds)
        # Gymnasium has no time limit around vector forms, and what is put around is made for single ones.
        if spec is None or spec.vector_entry_point is None or "max_episode_steps" in self.kwargs or around:
            return SyncVectorEnv([self.make] * num_envs, autoreset_mode=AutoresetMode.DISABLED)
        settings = {**self.kwargs, "autoreset_mode": AutoresetMode.DISABLED}
        return gym.make_vec(self.env_id, num_envs, vectorization_mode="vector_entry_point", **settings)

    def spec_json(self) -> str | None:
        """What stores keep of it, see `env_spec_json`.

        Raises:
            gymnasium.error.Error, ValueError: as `make`.
        """
        with self.make() as env:
            return env_spec_json(env)

    def to_json(self) -> dict[str, Any]:
        """JSON values for the settings of what was measured; what is not used is left out."""
        optional = {"image": self.image, "resize": self.resize, "seeds": self.seeds}
        used = {name: value for name, value in optional.items() if value}
        return {"env": self.env_id, "env_kwargs": dict(self.kwargs), **used}


def make_image_env(env_id: str, **kwargs: Any) -> gym.Env:
    """`EnvSetup(env_id, kwargs).make()`: an environment whose observation is a uint8 image (H, W, C) or a Dict with
    one."""
    return EnvSetup(env_id, kwargs).make()


def image_envs(env_id: str, **kwargs: Any) -> Callable[[int], VectorEnv]:
    """`EnvSetup(env_id, kwargs).make_many`: makes so many environments of `make_image_env` with autoreset disabled."""
    return EnvSetup(env_id, kwargs).make_many


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
    """What an environment was made of, as JSON of its EnvSpec; None, with a warning, if it cannot be written down.

    Of what is put around it, which Gymnasium lists whoever did it, only `AsImage` and `GivenSeeds` stay: all else is
    put there again whenever it is made.
    """
    if env.spec is None:
        return None
    ours = (AsImage.__name__, GivenSeeds.__name__)
    around = tuple(each for each in env.spec.additional_wrappers if each.name in ours)
    try:
        return replace(env.spec, additional_wrappers=around).to_json()
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


def single_envs(envs: VectorEnv) -> list[Any]:
    """The unwrapped environments of a SyncVectorEnv; none of a vector environment of another form."""
    inner = envs.unwrapped
    return [env.unwrapped for env in inner.envs] if isinstance(inner, SyncVectorEnv) else []


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
