"""Receding-horizon control: observe, plan, take the first action, repeat."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lssvwm_agents.planning.cem import CEM, CEMConfig, Plan
from lssvwm_agents.planning.dynamics import WorldModelDynamics
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.spaces import action_layout


@dataclass(frozen=True)
class PlannerState:
    """All that a planner carries from one call of `predict` to the next, n rows."""

    memory: Memory
    actions: Tensor
    """(n,) or (n, A): the actions returned by the last call."""
    plan: Plan
    calls: int
    """Calls of `predict` so far, which makes every call draw new random numbers."""


class PlannerPolicy:
    """A world model and CEM behind Stable-Baselines3's `predict`. Holds nothing between calls: state in, state out."""

    def __init__(
        self,
        model: WorldModel,
        config: CEMConfig | None = None,
        seed: int = 0,
        discount: float = 0.99,
        denoise_steps: int = 1,
        max_rows: int = 256,
    ) -> None:
        """See `CEMConfig` and `WorldModelDynamics` for the arguments."""
        self.model = model
        self.dynamics = WorldModelDynamics(model, discount, denoise_steps, seed, max_rows)
        self.cem = CEM(config or CEMConfig(), self.dynamics.action_space)
        self.action_space = self.dynamics.action_space
        self.seed = seed

    def predict(
        self,
        observation: Any,
        state: PlannerState | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, PlannerState]:
        """Actions for a batch of n observations.

        Args:
            observation: (n, H, W, C) uint8 images, or a dict with exactly one such array.
            state: what the previous call returned; None starts every row afresh.
            episode_start: (n,) bool, True where the observation is the first of an episode: its memory and plan are
                reset. Needed whenever `state` is given across an episode's end.
            deterministic: has no effect, planning always returns the best sequence found.

        Returns:
            Actions (n,) or (n, A) in the dtype of the action space, and the state for the next call.

        Raises:
            ValueError: if the images do not fit the model, or the number of rows changed.
        """
        frames = torch.from_numpy(self._frames(observation)).to(self.model.device)
        rows = frames.shape[0]
        state = self._initial(rows) if state is None else state
        if state.memory.batch_size != rows:
            raise ValueError(f"The state has {state.memory.batch_size} rows but {rows} observations came; start anew.")
        if episode_start is not None:
            state = self._restart(state, torch.as_tensor(np.asarray(episode_start), dtype=torch.bool))
        actions = state.actions.to(self.model.device)
        memory, _ = self.model.observe(state.memory, frames[:, None], actions[:, None])
        generators = [_generator(self.seed, row, state.calls) for row in range(rows)]
        chosen, plan, _ = self.cem.plan(self.dynamics, memory, state.plan, generators)
        return chosen.numpy().astype(self.action_space.dtype), PlannerState(memory, chosen, plan, state.calls + 1)

    def _initial(self, rows: int) -> PlannerState:
        shape, dtype = action_layout(self.action_space)
        actions = torch.from_numpy(np.zeros((rows, *shape), dtype))
        return PlannerState(self.model.initial_memory(rows), actions, self.cem.prior(rows), calls=0)

    def _restart(self, state: PlannerState, start: Tensor) -> PlannerState:
        # The stored action needs no reset: the model ignores an action that leads into a first frame.
        if not start.any():
            return state
        initial = self._initial(len(start))
        memory = initial.memory.where(start.to(self.model.device), state.memory)
        return replace(state, memory=memory, plan=initial.plan.where(start, state.plan))

    def _frames(self, observation: Any) -> np.ndarray:
        if isinstance(observation, dict):
            images = [v for v in observation.values() if v.dtype == np.uint8 and v.ndim == 4]
            if len(images) != 1:
                raise ValueError(f"The observation ({', '.join(observation)}) must hold one image, not {len(images)}.")
            observation = images[0]
        expected = tuple(self.model.config.frame_shape)
        if observation.shape[1:] != expected or observation.dtype != np.uint8:
            raise ValueError(
                f"Frames of shape {observation.shape[1:]} {observation.dtype} do not fit the world model, which takes "
                f"{expected} uint8; use the environment it was trained on."
            )
        return np.ascontiguousarray(observation)


def _generator(seed: int, row: int, call: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, row, call]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)
