"""MemoryObservation: a world model runs beside a real environment and adds its memory to the observation."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from lssvwm_envs.dream_state import make_observation, observation_space
from lssvwm_envs.model_cache import shared_model
from lssvwm_rl.checkpoints import check_fits
from lssvwm_rl.memory import Memory
from lssvwm_rl.spaces import action_layout, image_key, image_shape, space_from_json, space_to_json
from lssvwm_rl.world_model import WorldModel

Kind = Literal["memory", "both"]


class MemoryObservation(gym.Wrapper):
    """Observations become the readout that a dream gives after the same frames and actions.

    A policy trained on a dream's "memory" (or "both") therefore runs here unchanged.

    Args:
        env: its observation is the model's image, or a Dict with it.
        checkpoint: run folder, packaged name or hub id.
        observation: "memory" (R,) float32, or "both" for a Dict of image and memory.
        device: of the model.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the environment's frames or actions are not the model's.
    """

    def __init__(self, env: gym.Env, checkpoint: str, observation: Kind = "memory", device: str = "cpu"):
        super().__init__(env)
        self.model, self.image = _model_for(env.observation_space, env.action_space, checkpoint, device, str(env))
        self.kind: Kind = observation
        self.observation_space = observation_space(self.model.config, _checked(observation))
        self._memory = self.model.initial_memory(1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and forget."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._memory = self.model.initial_memory(1)
        return self._remember(observation, None), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment and commit the frame."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._remember(observation, action), reward, terminated, truncated, info

    def _remember(self, observation: Any, action: Any) -> Any:
        frame = observation if self.image is None else observation[self.image]
        self._memory, readout = commit(self.model, self._memory, frame[None], action)
        return make_observation(frame, readout[0], self.kind)


class VectorMemoryObservation(VectorWrapper):
    """`MemoryObservation` around a vector environment, one network call for all rows.

    Args:
        env: with next-step autoreset (Gymnasium's default): the step after an episode's end is the reset.
        checkpoint, observation, device: as in `MemoryObservation`.

    Raises:
        FileNotFoundError, ValueError: as `MemoryObservation`; also for another autoreset mode.
    """

    def __init__(self, env: VectorEnv, checkpoint: str, observation: Kind = "memory", device: str = "cpu"):
        super().__init__(env)
        mode = env.metadata.get("autoreset_mode")
        if mode is not None and mode != gym.vector.AutoresetMode.NEXT_STEP:
            raise ValueError(f"VectorMemoryObservation needs next-step autoreset, not {mode}; make the env with that.")
        spaces = env.single_observation_space, env.single_action_space
        self.model, self.image = _model_for(*spaces, checkpoint, device, str(env))
        self.kind: Kind = observation
        self.single_observation_space = observation_space(self.model.config, _checked(observation))
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._memory = self.model.initial_memory(env.num_envs)
        self._done = np.zeros(env.num_envs, bool)

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all rows and forget."""
        reseed: Any = seed  # VectorEnv takes a list as well as a number, its annotation does not say so
        observation, info = self.env.reset(seed=reseed, options=options)
        self._memory = self.model.initial_memory(self.num_envs)
        self._done = np.zeros(self.num_envs, bool)
        return self._remember(observation, None), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all rows; those that this step reset forget first."""
        observation, rewards, terminated, truncated, info = self.env.step(actions)
        if self._done.any():
            fresh = self.model.initial_memory(self.num_envs)
            self._memory = fresh.where(torch.from_numpy(self._done), self._memory)
        self._done = terminated | truncated
        return self._remember(observation, actions), rewards, terminated, truncated, info

    def _remember(self, observation: Any, actions: Any) -> Any:
        frames = observation if self.image is None else observation[self.image]
        self._memory, readout = commit(self.model, self._memory, frames, actions)
        return make_observation(frames, readout, self.kind)


def commit(model: WorldModel, memory: Memory, frames: np.ndarray, actions: Any) -> tuple[Memory, np.ndarray]:
    """Commit one real frame per row: frames (n, H, W, C) uint8, actions (n[, A]) -> memory, readout (n, R) float32.

    Actions are None where every row's frame is its first, which no action led into.
    """
    shape, dtype = action_layout(space_from_json(model.config.action_space))
    whole = (len(frames), *shape)
    moves = torch.from_numpy(np.zeros(whole, dtype) if actions is None else np.asarray(actions, dtype).reshape(whole))
    moves = moves.to(model.device)
    images = torch.from_numpy(np.ascontiguousarray(frames)).to(model.device)
    memory, _ = model.observe(memory, images[:, None], moves[:, None])
    return memory, memory.readout().cpu().numpy()


def _checked(observation: str) -> Kind:
    if observation not in ("memory", "both"):
        raise ValueError(f"Observation {observation!r} is unknown here; use memory or both.")
    return "memory" if observation == "memory" else "both"


def _model_for(
    observations: gym.Space, actions: gym.Space, checkpoint: str, device: str, what: str
) -> tuple[WorldModel, str | None]:
    model = shared_model(checkpoint, device)
    image = image_key(observations)
    check_fits(model.config, image_shape(observations), space_to_json(actions), what)
    return model, image
