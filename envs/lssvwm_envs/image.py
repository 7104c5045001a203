"""AsImage: the one place that decides which image of an observation is learnt, and how it lies in its array."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import RecordConstructorArgs

from lssvwm_rl.pictures import resized
from lssvwm_rl.spaces import Layout, check_image, chosen_image, image_of

NAMES: dict[Layout, str] = {"HWC": "", "CHW": ", from channels first", "HW": ", from two dimensions"}


class AsImage(gym.Wrapper, RecordConstructorArgs):
    """One uint8 image (H, W, C) in every observation, alone or in a Dict, and it is what the environment declares.

    Grey images (H, W) get a channel, channels that come first come last. Of a Dict with several images the others are
    left out; its other keys stay. An image that is not what the observation space says is refused in one sentence:
    vector environments would cast it, or fail in NumPy.

    Args:
        env: its observation is a uint8 image (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels, or a Dict with
            one.
        image: key of the image in a Dict; without it the only one, or the only one with its channels last.
        resize: (height, width) of the image; each pixel is the mean of those that it covers, or the nearest one.

    Raises:
        ValueError: if there is no such image, no telling which one, or the size is empty. `reset` and `step` raise it
            for images that are not as declared, and `reset` for seeds that the environment does not take.
    """

    def __init__(self, env: gym.Env, image: str | None = None, resize: tuple[int, int] | None = None):
        RecordConstructorArgs.__init__(self, image=image, resize=None if resize is None else list(resize))
        gym.Wrapper.__init__(self, env)
        self.key, self.layout = chosen_image(env.observation_space, image)
        self.declared = image_of(env.observation_space, self.key)
        self.size = None if resize is None else (int(resize[0]), int(resize[1]))
        if self.size is not None and (len(resize or ()) != 2 or min(self.size) < 1):
            raise ValueError(f"Images cannot be resized to {resize}; give a height and a width of at least 1.")
        height, width, channels = self.shape_before
        height, width = self.size or (height, width)
        if (height, width, channels) == self.shape_before:
            self.size = None
        self._left_out: frozenset[str] = frozenset()
        if isinstance(env.observation_space, spaces.Dict):
            others = {key: part for key, part in env.observation_space.items() if key != self.key}
            self._left_out = frozenset(key for key, part in others.items() if _is_like_an_image(part))
        if self.changes:
            self.observation_space = self._space(spaces.Box(0, 255, (height, width, channels), np.uint8))

    @property
    def shape_before(self) -> tuple[int, int, int]:
        """(H, W, C) before a change of size."""
        shape = self.declared.shape
        if self.layout == "HW":
            return (*shape, 1)
        return shape if self.layout == "HWC" else (*shape[1:], shape[0])

    @property
    def changes(self) -> bool:
        """Whether observations are other ones than the environment's."""
        return self.layout != "HWC" or self.size is not None or bool(self._left_out)

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]  # an attribute in Env, a property in Wrapper
        """That of the environment, with this around it if it changes anything."""
        return super().spec if self.changes else self.env.spec

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset."""
        try:
            observation, info = self.env.reset(seed=seed, options=options)
        except (ValueError, LookupError, OverflowError) as error:
            if seed is None:
                raise
            raise ValueError(
                f"{self.env.unwrapped} cannot be reset with seed {seed:,} ({error}); if its seeds number its levels, "
                "name those there are with --seeds."
            ) from error
        return self._changed(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step."""
        observation, *rest = self.env.step(action)
        return (self._changed(observation), *rest)  # type: ignore[return-value]

    def sentence(self) -> str:
        """What the image is: key, size, channels, dtype, what is done to it."""
        height, width, channels = self.shape_before
        where = "the observation" if self.key is None else f"observation[{self.key!r}]"
        colours = f"{channels} channel{'s' if channels > 1 else ''}"
        resized = f", resized to {self.size[0]}x{self.size[1]}" if self.size else ""
        return f"{where}, {height}x{width} pixels of {colours}, uint8{NAMES[self.layout]}{resized}"

    def _changed(self, observation: Any) -> Any:
        image = image_of(observation, self.key)
        check_image(image, self.declared)
        if not self.changes:
            return observation
        if self.layout == "HW":
            image = image[..., None]
        elif self.layout == "CHW":
            image = np.moveaxis(image, 0, -1)
        image = np.ascontiguousarray(image) if self.size is None else resized(image, self.size)
        if self.key is None:
            return image
        return {k: image if k == self.key else part for k, part in observation.items() if k not in self._left_out}

    def _space(self, image: spaces.Box) -> gym.Space:
        own = self.env.observation_space
        if not isinstance(own, spaces.Dict):
            return image
        parts = {key: part for key, part in own.items() if key not in self._left_out}
        return spaces.Dict({key: image if key == self.key else part for key, part in parts.items()})


class AsChoices(gym.Wrapper):
    """MultiBinary(n) actions as MultiDiscrete([2] * n), which models, planners and PPO know."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        assert isinstance(env.action_space, spaces.MultiBinary)
        self.action_space = spaces.MultiDiscrete([2] * env.action_space.shape[0])

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """That of the environment, of which this always is a part."""
        return self.env.spec

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step with actions of the environment's own dtype."""
        return self.env.step(np.asarray(action, self.env.action_space.dtype))


def image_wrapper(env: gym.Env) -> AsImage:
    """The `AsImage` around an environment that `lssvwm_envs.make` made."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, AsImage):
            return env
        env = env.env
    raise ValueError(f"{env} was not made by lssvwm_envs.make, so nothing says what its image is; make it there.")


def _is_like_an_image(space: gym.Space) -> bool:
    try:
        chosen_image(space)
    except ValueError:
        return False
    return True
