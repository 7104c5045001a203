"""DreamEnv: a checkpoint as a Gymnasium environment, registered as lssvwm/Dream-v0."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch

from lssvwm_envs.dream_state import (
    TERMINATED_ABOVE,
    DreamState,
    Observation,
    draw_context,
    make_observation,
    observation_space,
    observe_contexts,
)
from lssvwm_envs.model_cache import shared_model
from lssvwm_rl.checkpoints import fingerprint, load_contexts
from lssvwm_rl.data.store import Episode
from lssvwm_rl.memory import Memory
from lssvwm_rl.spaces import action_layout, space_from_json


class DreamEnv(gym.Env):
    """The learned environment. What it has seen is in its memory, which `get_state` hands out as a value.

    A model of observations with a low-dimensional part dreams that too: `step` tells it in info["vector"].

    An episode ends (terminated) when the model gives its end more than probability 0.5, and is truncated after
    `max_episode_steps`, which is counted here so that a restored state keeps its horizon.

    Args:
        checkpoint: run folder, packaged name or hub id.
        context_length: real frames observed at reset, from the beginning of a held-out episode; 1 starts where real
            episodes start.
        max_episode_steps: dreamt steps until truncation.
        denoise_steps: network passes per frame; more are slower and sharper.
        device: of the model.
        compiled: whether the model dreams through torch.compile: faster, after a minute or more at the first step.
        observation: "image" (H, W, C) uint8; "memory" (R,) float32 in [-1, 1], the model's readout; or "both".
        render_mode: "rgb_array" or None.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if it is broken, or an argument is out of range.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}

    def __init__(
        self,
        checkpoint: str,
        context_length: int = 1,
        max_episode_steps: int = 256,
        denoise_steps: int = 4,
        device: str = "cpu",
        compiled: bool = False,
        observation: Observation = "image",
        render_mode: str | None = None,
    ):
        if min(context_length, max_episode_steps, denoise_steps) < 1:
            raise ValueError(
                f"context_length, max_episode_steps and denoise_steps must be at least 1, got {context_length}, "
                f"{max_episode_steps} and {denoise_steps}."
            )
        self.model = shared_model(checkpoint, device, compiled)
        self.contexts = load_contexts(checkpoint)
        self.context_length, self.max_episode_steps = context_length, max_episode_steps
        self.denoise_steps, self.observation, self.render_mode = denoise_steps, observation, render_mode
        self.observation_space = observation_space(self.model.config, observation)
        self.action_space = space_from_json(self.model.config.action_space)
        self._fingerprint = fingerprint(self.model)
        self._noise = torch.Generator(device)
        self._memory: Memory | None = None
        self._frame = np.zeros(self.model.config.frame_shape, np.uint8)
        self._steps, self._ended = 0, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a dream from a random context.

        Args:
            seed: of contexts and noise.
            options: {"context": (frames (T, H, W, C) uint8, actions (T-1[, A]))} begins after these real frames;
                {"state": DreamState} is `set_state`.

        Raises:
            ValueError: for other options, or a context or state that does not fit the model.
        """
        super().reset(seed=seed)
        options = options or {}
        unknown = set(options) - {"context", "state"}
        if unknown:
            raise ValueError(f"Option {sorted(unknown)[0]!r} is unknown; use context or state.")
        info: dict[str, Any] = {}
        if options.get("state") is not None:
            self.set_state(options["state"])
            return self._observe(), info
        if options.get("context") is not None:
            context = self._given_context(*options["context"])
        else:
            info["context_episode"], context = draw_context(self.contexts, self.context_length, self.np_random)
        self._noise.manual_seed(int(self.np_random.integers(2**63)))
        self._memory, frames = observe_contexts(self.model, [context])
        self._frame, self._steps, self._ended = frames[0], 0, False
        return self._observe(), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Dream one step.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset and after the end.
            gymnasium.error.InvalidAction: if the action is not in the action space.
        """
        if self._memory is None or self._ended:
            raise gym.error.ResetNeeded("The dream has ended or not begun; call reset() before step().")
        if not self.action_space.contains(action):
            raise gym.error.InvalidAction(f"Action {action!r} is not in {self.action_space}; give one that is.")
        _, dtype = action_layout(self.action_space)
        moves = torch.from_numpy(np.asarray(action, dtype)[None]).to(self.model.device)
        imagined = self.model.imagine(self._memory, moves, [self._noise], self.denoise_steps)
        self._memory, self._frame = imagined.memory, imagined.frame[0].cpu().numpy()
        self._steps += 1
        terminated = float(imagined.terminated[0]) > TERMINATED_ABOVE
        truncated = self._steps >= self.max_episode_steps
        self._ended = terminated or truncated
        info: dict[str, Any] = {"terminated_probability": float(imagined.terminated[0])}
        if imagined.vector is not None:
            info["vector"] = imagined.vector[0].cpu().numpy()
        return self._observe(), float(imagined.reward[0]), terminated, truncated, info

    def render(self) -> Any:
        """The last frame as (H, W, 3) uint8, if the render mode is "rgb_array"."""
        if self.render_mode is None:
            return None
        return self._frame.repeat(3, axis=2) if self._frame.shape[2] == 1 else self._frame[..., :3].copy()

    def get_state(self) -> DreamState:
        """Where the dream is: given to `set_state`, the same actions give bit-identical frames.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset.
        """
        if self._memory is None:
            raise gym.error.ResetNeeded("There is no dream yet; call reset() before get_state().")
        return DreamState(
            memory=self._memory,
            model=self._fingerprint,
            frame=self._frame.copy(),
            steps=self._steps,
            ended=self._ended,
            noise=self._noise.get_state().numpy().copy(),
            np_random=dict(self.np_random.bit_generator.state),
        )

    def set_state(self, state: DreamState) -> None:
        """Go on from a state of this checkpoint.

        Raises:
            ValueError: if the state is another model's, or has more than one row.
        """
        if state.model != self._fingerprint or state.memory.batch_size != 1:
            raise ValueError(
                f"The state has {state.memory.batch_size} rows of memory of model {state.model}, this env dreams 1 of "
                f"{self._fingerprint}; restore it in an env with the checkpoint it came from."
            )
        self._memory = state.memory.to(self.model.device)
        self._frame, self._steps, self._ended = state.frame.copy(), state.steps, state.ended
        self._noise.set_state(torch.from_numpy(state.noise.copy()))
        self.np_random.bit_generator.state = state.np_random

    def _observe(self) -> Any:
        assert self._memory is not None
        readout = self._memory.readout()[0].cpu().numpy().copy()
        return make_observation(self._frame.copy(), readout, self.observation)

    def _given_context(self, frames: np.ndarray, actions: np.ndarray) -> Episode:
        shape, dtype = action_layout(self.action_space)
        frames, actions = np.asarray(frames), np.asarray(actions, dtype)
        if frames.dtype != np.uint8 or frames.shape[1:] != self.model.config.frame_shape or len(frames) == 0:
            raise ValueError(
                f"Context frames of {frames.shape} {frames.dtype} do not fit; give T frames of "
                f"{self.model.config.frame_shape} uint8."
            )
        if actions.shape != (len(frames) - 1, *shape):
            raise ValueError(
                f"{len(frames)} context frames need {len(frames) - 1} actions between them, got {actions.shape}."
            )
        none = np.zeros(len(actions), np.float32)
        return Episode(frames, actions, none, terminated=False, truncated=False)
