"""DreamEnv: a checkpoint as a Gymnasium environment, registered as lssvwm/Dream-v0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from lssvwm_envs.dream.dreams import DreamConfig, Dreams, check_actions, check_options, to_numpy
from lssvwm_envs.dream.picture import check_render, draw
from lssvwm_envs.dream.state import DreamState
from lssvwm_envs.observation import Observation, observation_space
from lssvwm_envs.rows import row_of
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.spaces import action_layout

ROW = np.zeros(1, np.int64)


class DreamEnv(gym.Env):
    """The learned environment. What it has seen is in its memory, which `get_state` hands out as a value.

    A model of observations with a low-dimensional part dreams that too: `step` tells it in info["vector"].

    An episode ends (terminated) when the model gives its end more than probability 0.5, and is truncated after
    `horizon` steps, which are counted here so that a restored state keeps its horizon; what `gym.make` does with its
    own argument `max_episode_steps` would not.

    Args:
        checkpoint, context_length, horizon, denoise_steps, device, compiled: see `DreamConfig`.
        observation: "image" (H, W, C) uint8; "memory" (R,) float32 in [-1, 1], the model's readout; or "both".
        render_mode: "rgb_array" or None.
        render_memory: whether pictures show beside the frame how much each block remembers, see `picture.heat_map`.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if it is broken or none is named, or an argument is out of range.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}

    def __init__(
        self,
        checkpoint: str | None = None,
        context_length: int = 1,
        horizon: int = 256,
        denoise_steps: int = 4,
        device: str = "cpu",
        compiled: bool = False,
        observation: Observation = "image",
        render_mode: str | None = None,
        render_memory: bool = False,
    ):
        config = DreamConfig(checkpoint, context_length, horizon, denoise_steps, device, compiled)
        self._dreams = Dreams(config, 1)
        check_render(self.model, render_mode, render_memory)
        self.render_mode, self.render_memory, self.observation = render_mode, render_memory, observation
        self.observation_space = observation_space(self.model, observation)
        self.action_space = self._dreams.action_space
        self._ended = False

    @property
    def model(self) -> WorldModel:
        """Shared by all environments of the process with this checkpoint; not to be changed."""
        return self._dreams.model

    @property
    def contexts(self) -> EpisodeStore:
        """The checkpoint's own held-out episodes.

        Raises:
            ValueError: if it has none.
        """
        return self._dreams.contexts

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a dream from a random context.

        Args:
            seed: of contexts and noise.
            options: {"context": (frames (T, H, W, C) uint8, actions (T-1[, A])[, vectors (T, V)])} begins after these
                real frames; {"state": DreamState} is `set_state`.

        Raises:
            ValueError: for other options, a context or state that does not fit the model, or if the checkpoint has no
                contexts and none is given.
        """
        state, given = self._dreams.start_of(check_options(options, ("context", "state")))
        super().reset(seed=seed)
        self._dreams.rngs[0] = self.np_random
        if state is not None:
            self.set_state(state)
            return self._observe(), {}
        drawn = self._dreams.begin(ROW, given)
        self._ended = False
        return self._observe(), {"context_episode": drawn[0]} if drawn else {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Dream one step.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset and after the end.
            gymnasium.error.InvalidAction: if the action is not in the action space.
        """
        if self._ended or not self._dreams.begun[0]:
            raise gym.error.ResetNeeded("The dream has ended or not begun; call reset() before step().")
        _, dtype = action_layout(self.action_space)
        moves = np.asarray(check_actions(action, self.action_space), dtype)[None]
        dreamt = self._dreams.step(torch.from_numpy(moves).to(self.model.device))
        terminated, truncated = bool(dreamt.terminated[0]), bool(dreamt.truncated[0])
        self._ended = terminated or truncated
        info: dict[str, Any] = {"terminated_probability": float(dreamt.probability[0])}
        if dreamt.vector is not None:
            info["vector"] = dreamt.vector[0].cpu().numpy()
        return self._observe(), float(dreamt.reward[0]), terminated, truncated, info

    def render(self) -> Any:
        """The last frame as (H, W, 3) uint8, twice as wide with the memory, if the render mode is "rgb_array"."""
        if self.render_mode is None:
            return None
        return draw(self.model, self._dreams.frames, self._dreams.memory if self.render_memory else None)[0]

    def get_state(self) -> DreamState:
        """Where the dream is: given to `set_state`, the same actions give bit-identical frames.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset.
        """
        return self._dreams.state(0, self._ended)

    def set_state(self, state: DreamState) -> None:
        """Go on from a state of this checkpoint.

        Raises:
            ValueError: if the state is another model's.
        """
        self._dreams.rngs[0] = self.np_random
        self._dreams.restore(ROW, state)
        self._ended = state.ended

    def save_state(self, path: str | Path) -> None:
        """`get_state`, written to a file."""
        self.get_state().save(path)

    def load_state(self, path: str | Path) -> None:
        """`set_state`, read from a file.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is broken or another model's.
        """
        self.set_state(DreamState.load(path))

    def _observe(self) -> Any:
        return row_of(to_numpy(self._dreams.observe(self.observation)), 0)
