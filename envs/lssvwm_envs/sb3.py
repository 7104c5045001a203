"""DreamVecEnv: many dreams as one Stable-Baselines3 VecEnv, one network call per step for all."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv

from lssvwm_envs.dream_state import (
    TERMINATED_ABOVE,
    Observation,
    draw_context,
    make_observation,
    observation_space,
    observe_contexts,
)
from lssvwm_envs.model_cache import shared_model
from lssvwm_rl.checkpoints import load_contexts
from lssvwm_rl.memory import Memory
from lssvwm_rl.spaces import action_layout, space_from_json


class DreamVecEnv(VecEnv):
    """A batch of dreams. Row i seeded s dreams what `DreamEnv` seeded s + i does, up to float rounding of batches.

    Args:
        checkpoint, context_length, max_episode_steps, denoise_steps, device, compiled, observation: as in `DreamEnv`.
        num_envs: rows.
        seed: of row 0; row i has seed + i.

    Raises:
        FileNotFoundError, ValueError: as `DreamEnv`.
    """

    def __init__(
        self,
        checkpoint: str,
        num_envs: int,
        seed: int = 0,
        observation: Observation = "image",
        context_length: int = 1,
        max_episode_steps: int = 256,
        denoise_steps: int = 4,
        device: str = "cpu",
        compiled: bool = False,
    ):
        if min(num_envs, context_length, max_episode_steps, denoise_steps) < 1:
            raise ValueError("num_envs, context_length, max_episode_steps and denoise_steps must be at least 1.")
        self.model = shared_model(checkpoint, device, compiled)
        self.contexts = load_contexts(checkpoint)
        self.context_length, self.max_episode_steps = context_length, max_episode_steps
        self.denoise_steps, self.observation = denoise_steps, observation
        self.render_mode = None
        config = self.model.config
        super().__init__(num_envs, observation_space(config, observation), space_from_json(config.action_space))
        self._noise = [torch.Generator(device) for _ in range(num_envs)]
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]
        self._actions = torch.zeros(0)
        self._memory: Memory | None = None
        self._frames = np.zeros((num_envs, *config.frame_shape), np.uint8)
        self._steps = np.zeros(num_envs, np.int64)
        self.seed(seed)

    def reset(self) -> Any:
        """Begin every row anew."""
        for i, seed in enumerate(self._seeds):
            if seed is not None:
                self._rngs[i] = np.random.Generator(np.random.PCG64(seed))
        self._begin(np.ones(self.num_envs, bool))
        self._reset_seeds()
        return self._observe()

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions of the next `step_wait`.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset.
            gymnasium.error.InvalidAction: unless there is one action of the action space per row.
        """
        if self._memory is None:
            raise gym.error.ResetNeeded("The dreams have not begun; call reset() before step().")
        if np.shape(actions)[:1] != (self.num_envs,):
            raise gym.error.InvalidAction(
                f"Actions of shape {np.shape(actions)} do not fit {self.num_envs} rows; give one action per row."
            )
        for action in actions:
            if not self.action_space.contains(action):
                raise gym.error.InvalidAction(f"Action {action!r} is not in {self.action_space}; give one that is.")
        _, dtype = action_layout(self.action_space)
        self._actions = torch.from_numpy(np.asarray(actions, dtype)).to(self.model.device)

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Dream one step in every row; rows that ended begin anew and tell their last observation in `infos`."""
        assert self._memory is not None
        imagined = self.model.imagine(self._memory, self._actions, self._noise, self.denoise_steps)
        self._memory, self._frames = imagined.memory, imagined.frame.cpu().numpy()
        self._steps += 1
        terminated = imagined.terminated.cpu().numpy() > TERMINATED_ABOVE
        truncated = self._steps >= self.max_episode_steps
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": bool(cut)} for cut in truncated & ~terminated]
        if done.any():
            last = self._observe()
            for i in np.flatnonzero(done):
                infos[i]["terminal_observation"] = (
                    {k: v[i] for k, v in last.items()} if isinstance(last, dict) else last[i]
                )
            self._begin(done)
        return self._observe(), imagined.reward.cpu().numpy(), done, infos

    def close(self) -> None:
        """Nothing to close; the model is shared."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute, the same for every row."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Rows have no attributes of their own."""
        raise AttributeError("The rows of a DreamVecEnv have no attributes of their own.")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Rows are no objects and have no methods."""
        raise AttributeError("The rows of a DreamVecEnv have no methods of their own.")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """No row is wrapped."""
        return [False for _ in self._get_indices(indices)]

    def _begin(self, rows: np.ndarray) -> None:
        chosen = np.flatnonzero(rows)
        contexts = []
        for i in chosen:
            contexts.append(draw_context(self.contexts, self.context_length, self._rngs[i])[1])
            self._noise[i].manual_seed(int(self._rngs[i].integers(2**63)))
        fresh, frames = observe_contexts(self.model, contexts)
        place = np.zeros(self.num_envs, np.int64)
        place[chosen] = np.arange(len(chosen))
        fresh = fresh.select(torch.from_numpy(place))
        self._memory = fresh if self._memory is None else fresh.where(torch.from_numpy(rows), self._memory)
        self._frames = self._frames.copy()
        self._frames[chosen], self._steps[chosen] = frames, 0

    def _observe(self) -> Any:
        assert self._memory is not None
        return make_observation(self._frames, self._memory.readout().cpu().numpy(), self.observation)
