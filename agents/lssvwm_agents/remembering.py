"""A policy that reads memories, as one that reads frames: it plays where nothing is put around the environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lssvwm_agents.planning.mpc import fitting_frames
from lssvwm_rl.model.engine import Engine, engine_of
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.policy import Policy
from lssvwm_rl.spaces import action_layout, space_from_json


@dataclass(frozen=True)
class Remembered:
    """What `RememberingPolicy` carries from one call of `predict` to the next, n rows."""

    memory: Memory
    actions: np.ndarray
    """(n[, A]), of the last call."""


class RememberingPolicy:
    """A world model observes, and the policy reads the memory: Stable-Baselines3's `predict` on frames.

    Vectors beside the frames are predicted by the model, as in a dream.

    Args:
        policy: reads the readout (n, R') float32 of a memory.
        model: whose memory it is, or the engine that runs it.
    """

    def __init__(self, policy: Policy, model: WorldModel | Engine):
        self.policy, self.engine = policy, engine_of(model)
        self._shape, self._dtype = action_layout(space_from_json(self.engine.model.config.action_space))

    def predict(
        self,
        observation: Any,
        state: Remembered | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Remembered]:
        """Commit a frame per row and act.

        Args:
            observation: (n, H, W, C) uint8 images, or a dict with exactly one such array.
            state: what the previous call returned; None starts every row afresh.
            episode_start: (n,) bool, rows that forget first.

        Raises:
            ValueError: if the images do not fit the model.
        """
        model = self.engine.model
        frames = torch.from_numpy(fitting_frames(model, observation)).to(model.device)
        n = len(frames)
        if state is None:
            state = Remembered(model.initial_memory(n), np.zeros((n, *self._shape), self._dtype))
        elif episode_start is not None and episode_start.any():
            rows = torch.from_numpy(np.flatnonzero(episode_start))
            state = Remembered(state.memory.put(rows, model.initial_memory(len(rows))), state.actions)
        last = torch.from_numpy(state.actions.astype(self._dtype)).to(model.device)
        memory, _ = self.engine.observe(state.memory, frames[:, None], last[:, None])
        readout = memory.readout().float().cpu().numpy()
        actions, _ = self.policy.predict(readout, None, None, deterministic)
        return actions, Remembered(memory, np.asarray(actions))
