"""Receding-horizon control: observe, plan, take the first action, repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic

import numpy as np
import torch
from torch import Tensor

from lssvwm_agents.planning.dynamics import Dynamics, engine_of
from lssvwm_agents.planning.planner import P, Planner
from lssvwm_rl.model.engine import Engine
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.spaces import action_layout, find_images, read_vectors, space_from_json, unseen


@dataclass(frozen=True)
class PlannerState(Generic[P]):
    """All that a planner carries from one call of `predict` to the next, n rows."""

    memory: Memory
    actions: Tensor
    """(n,) or (n, A): the actions returned by the last call."""
    plan: P
    calls: int
    """Calls of `predict` so far, which makes every call draw new random numbers."""


class PlannerPolicy(Generic[P]):
    """Stable-Baselines3's `predict`: a world model observes, a planner searches. State in, state out."""

    def __init__(
        self,
        model: WorldModel | Engine,
        planner: Planner[P],
        dynamics: Dynamics,
        seed: int = 0,
        vector_keys: Sequence[str] = (),
    ) -> None:
        """
        Args:
            model: or the engine that runs it, see `engine_of`; its memory of what was observed is where the dynamics
                start.
            planner: searches actions at every step.
            dynamics: what the planner searches in, for example `WorldModelDynamics(model)`.
            seed: of the planner's random numbers.
            vector_keys: see `given_vectors`.

        Raises:
            ValueError: if the dynamics have other actions than the model.
        """
        self.engine = engine_of(model)
        self.model = self.engine.model
        self.action_space = space_from_json(self.model.config.action_space)
        if dynamics.action_space != self.action_space:
            raise ValueError(
                f"The dynamics take actions of {dynamics.action_space}, the world model of {self.action_space}; use "
                "dynamics of the same environment."
            )
        self.planner, self.dynamics, self.seed = planner, dynamics, seed
        self.vector_keys = tuple(vector_keys)

    def predict(
        self,
        observation: Any,
        state: PlannerState[P] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, PlannerState[P]]:
        """Actions for a batch of n observations.

        Args:
            observation: (n, H, W, C) uint8 images, or a dict with exactly one such array.
            state: what the previous call returned; None starts every row afresh.
            episode_start: (n,) bool, True where the observation is the first of an episode: its memory and plan are
                reset. Needed whenever `state` is given across an episode's end.
            deterministic: has no effect: what is returned is always what the planner chose.

        Returns:
            Actions (n,) or (n, A) in the dtype of the action space, and the state for the next call.

        Raises:
            ValueError: if the images do not fit the model, or the number of rows changed.
        """
        frames = torch.from_numpy(fitting_frames(self.model, observation)).to(self.model.device)
        rows = frames.shape[0]
        state = self._initial(rows) if state is None else state
        if state.memory.batch_size != rows:
            raise ValueError(f"The state has {state.memory.batch_size} rows but {rows} observations came; start anew.")
        if episode_start is not None:
            state = self._restart(state, torch.as_tensor(np.asarray(episode_start), dtype=torch.bool))
        actions = state.actions.to(self.model.device)
        vectors = given_vectors(self.model, observation, self.vector_keys)
        memory, _ = self.engine.observe(state.memory, frames[:, None], actions[:, None], vectors)
        generators = [_generator(self.seed, row, state.calls) for row in range(rows)]
        chosen, plan, _ = self.planner.plan(self.dynamics, memory, state.plan, generators)
        return chosen.numpy().astype(self.action_space.dtype), PlannerState(memory, chosen, plan, state.calls + 1)

    def _initial(self, rows: int) -> PlannerState[P]:
        shape, dtype = action_layout(self.action_space)
        actions = torch.from_numpy(np.zeros((rows, *shape), dtype))
        return PlannerState(self.model.initial_memory(rows), actions, self.planner.prior(rows), calls=0)

    def _restart(self, state: PlannerState[P], start: Tensor) -> PlannerState[P]:
        # The stored action needs no reset: the model ignores an action that leads into a first frame.
        if not start.any():
            return state
        initial = self._initial(len(start))
        memory = initial.memory.where(start.to(self.model.device), state.memory)
        return replace(state, memory=memory, plan=initial.plan.where(start, state.plan))


def fitting_frames(model: WorldModel, observation: Any) -> np.ndarray:
    """The images (n, H, W, C) uint8 in a batch of observations.

    Raises:
        ValueError: if there are not exactly one per row, or they do not fit the model.
    """
    images = find_images(observation)
    expected = tuple(model.config.frame_shape)
    if images.shape[1:] != expected or images.dtype != np.uint8:
        raise ValueError(
            f"Frames of shape {images.shape[1:]} {images.dtype} do not fit the world model, which takes {expected} "
            "uint8; use the environment it was trained on."
        )
    return np.ascontiguousarray(images)


def given_vectors(model: WorldModel, observation: Any, keys: Sequence[str]) -> Tensor | None:
    """The vectors (n, 1, V) float32 in a batch of observations; None if it does not hold all of them, for the model to
    predict them as in a dream.

    Args:
        keys: what the model's vectors were made of, see `vector_keys_of`.
    """
    if not keys or unseen(keys, observation):
        return None
    rows = len(find_images(observation))
    return torch.from_numpy(read_vectors(keys, observation, {}, rows)).to(model.device)[:, None]


def _generator(seed: int, row: int, call: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, row, call]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)
