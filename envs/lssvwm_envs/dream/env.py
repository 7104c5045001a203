"""DreamEnv: a checkpoint as a Gymnasium environment, registered as lssvwm/Dream-v0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from lssvwm_envs.checks import check_actions
from lssvwm_envs.dream.checks import check_options
from lssvwm_envs.dream.config import DreamConfig, End
from lssvwm_envs.dream.dreams import Dreams
from lssvwm_envs.dream.picture import check_render, draw
from lssvwm_envs.dream.state import DreamState
from lssvwm_envs.observation import Observation, observation_space
from lssvwm_envs.rows import check_ready_alone, row_info, row_of, to_numpy
from lssvwm_rl.data.store import Episode, EpisodeStore
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.spaces import action_layout

ONLY_ROW = np.ones(1, bool)


class DreamEnv(gym.Env):
    """The learned environment. What it has seen is in its memory, which `get_state` hands out as a value.

    A model of observations with a low-dimensional part dreams that too, which is in info["vector"] of each step.

    An episode ends (terminated) when the model gives its end more than probability 0.5, or with that probability if
    the end is sampled; `info["terminated_probability"]` has it in any case. It is truncated after
    `horizon` steps, which are counted here so that a restored state keeps its horizon; what `gym.make` does with its
    own argument `max_episode_steps` would not.

    `info["doubt"]` of each step is how unsure the model was of the frame, float32 in [0, 1]: the share of the
    checkpoint's held-out frames that it dreams with less doubt (`doubt.DoubtScale`; a checkpoint that was written
    without this scale has it measured here once per process, in seconds). There is none with one denoising pass, or
    for a checkpoint without held-out episodes. With `doubt_limit`, a dream is truncated where its doubt reaches the
    limit, and `info["doubtful"]` says whether it was. Pictures have a red border from the limit on, or from 0.99.

    Args:
        checkpoint: run folder, packaged name or hub id.
        context_length: real frames observed at reset; 1 starts where real episodes start.
        horizon: dreamt steps until truncation.
        denoise_steps: network passes per frame; more are slower and sharper.
        device: of the model.
        engine: what runs the model: "auto", "native", "native-bf16", "compiled" or "torch".
        observation: "image" (H, W, C) uint8; "memory" (R',) float32 in [-1, 1], the readout, which has
            `model.readout_size` numbers; or "both".
        render_mode: "rgb_array" or None.
        render_memory: whether pictures show beside the frame how much each block remembers, see `heat_map`.
        start: "first", "anywhere" or the share of dreams that begins anywhere in a real episode, see `DreamConfig`.
        contexts: store of the real episodes; None for the held-out ones that come with the checkpoint.
        end: "threshold" or "sample", see `DreamConfig`.
        doubt_limit: doubt in (0, 1] at which a dream is truncated, see `DreamConfig`; None for never.
        doubt_penalty: times the doubt of each frame, it is subtracted from the reward.
        temperature: times the noise that each frame is made of; 1 is as in training.
        compiled: not to be given any more; an error says what to give instead.

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
        engine: str = "auto",
        observation: Observation = "image",
        render_mode: str | None = None,
        render_memory: bool = False,
        start: float | str = "first",
        contexts: str | None = None,
        end: End = "threshold",
        doubt_limit: float | None = None,
        doubt_penalty: float = 0.0,
        temperature: float = 1.0,
        compiled: bool | None = None,
    ):
        config = DreamConfig(
            checkpoint,
            context_length,
            horizon,
            denoise_steps,
            device,
            engine,
            observation,
            start,
            contexts,
            end,
            doubt_limit,
            doubt_penalty,
            temperature,
            compiled,
        )
        self._dreams = Dreams(config, 1)
        check_render(self.model, render_mode, render_memory)
        self.render_mode, self.render_memory = render_mode, render_memory
        self.observation_space = observation_space(self.model, observation)
        self.action_space = self._dreams.action_space

    @property
    def model(self) -> WorldModel:
        """Shared by all environments of the process with this checkpoint; not to be changed."""
        return self._dreams.model

    @property
    def contexts(self) -> EpisodeStore:
        """The real episodes that dreams begin in.

        Raises:
            ValueError: if there are none.
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
        start = self._dreams.start_of(check_options(options, ("context", "state")))
        super().reset(seed=seed)
        info = self._begin(start)
        return self._observe(), row_info(info, 0)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Dream one step.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset and after the end.
            gymnasium.error.InvalidAction: if the action is not in the action space.
        """
        check_ready_alone(self._dreams)
        _, dtype = action_layout(self.action_space)
        moves = np.asarray(check_actions(action, self.action_space), dtype)[None]
        step = self._dreams.step(torch.from_numpy(moves).to(self.model.device))
        ends = bool(step.terminated[0]), bool(step.truncated[0])
        return self._observe(), float(step.reward[0]), *ends, row_info(to_numpy(step.info), 0)

    def render(self) -> Any:
        """The last frame as (H, W, 3) uint8, twice as wide with the memory, if the render mode is "rgb_array"."""
        if self.render_mode is None:
            return None
        memory = self._dreams.memory if self.render_memory else None
        return draw(self.model, self._dreams.frames, memory, self._dreams.doubted())[0]

    def get_state(self) -> DreamState:
        """Where the dream is: given to `set_state`, the same actions give bit-identical frames.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset.
        """
        return self._dreams.state(0)

    def set_state(self, state: DreamState) -> None:
        """Go on from a state of this checkpoint.

        Raises:
            ValueError: if the state is another model's.
        """
        self._dreams.check_state(state)
        self._begin(state)

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

    def _begin(self, start: DreamState | Episode | None) -> dict[str, Any]:
        self._dreams.generators[0] = self.np_random  # one generator, which Gymnasium seeds
        return self._dreams.begin(ONLY_ROW, start)

    def _observe(self) -> Any:
        return row_of(to_numpy(self._dreams.observe()), 0)
