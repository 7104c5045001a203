"""Scoring candidate action sequences: the seam between a planner and whatever predicts returns."""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.spaces import action_layout, space_from_json


class Dynamics(Protocol):
    """Anything that predicts the returns of action sequences; what `memory` is, is its own choice."""

    @property
    def action_space(self) -> gym.Space:
        """The space of one action."""

    def evaluate(self, memory: Any, actions: Tensor) -> Tensor:
        """Returns (B, S) float32 of S candidate sequences for each of the B rows of `memory`.

        Args:
            memory: B starting points; not changed.
            actions: (B, S, horizon) int64 for Discrete, else (B, S, horizon, A) int64 or float32, as the
                environment takes them.
        """


class WorldModelDynamics:
    """Returns predicted by unrolling a world model, without gradients.

    All candidates of one row meet the same diffusion noise (common random numbers), so that their returns differ by
    their actions alone. The noise depends on the seed and the row's frame counter only: repeated calls agree exactly,
    a row does not depend on its neighbours, and the next real step draws new noise.
    """

    def __init__(
        self, model: WorldModel, discount: float = 0.99, denoise_steps: int = 1, seed: int = 0, max_rows: int = 256
    ) -> None:
        """
        Args:
            discount: per step, in (0, 1].
            denoise_steps: network passes per imagined frame.
            max_rows: sequences unrolled at a time, which bounds the memory used.
        """
        if not 0 < discount <= 1:
            raise ValueError(f"The discount {discount} is outside (0, 1]; use for example 0.99.")
        if denoise_steps < 1 or max_rows < 1:
            raise ValueError(f"denoise_steps {denoise_steps} and max_rows {max_rows} must be at least 1.")
        self.model = model
        self.discount = discount
        self.denoise_steps = denoise_steps
        self.seed = seed
        self.max_rows = max_rows
        self.action_space = space_from_json(model.config.action_space)

    @torch.no_grad()
    def evaluate(self, memory: Memory, actions: Tensor) -> Tensor:
        """See `Dynamics.evaluate`: sum of discounted rewards, each weighted by the chance of being alive before it.

        Raises:
            ValueError: if `actions` do not fit the memory's rows or the action space.
        """
        action_shape, _ = action_layout(self.action_space)
        if actions.ndim < 3 or actions.shape[0] != memory.batch_size or tuple(actions.shape[3:]) != action_shape:
            expected = (memory.batch_size, "S", "horizon", *action_shape)
            raise ValueError(f"Actions of shape {tuple(actions.shape)} do not fit; give {expected}.")
        candidates = actions.shape[1]
        rows = torch.arange(memory.batch_size).repeat_interleave(candidates)
        flat = actions.flatten(0, 1).to(self.model.device)
        noise_seeds = [_noise_seed(self.seed, frames) for frames in memory.frames.tolist()]
        chunks = [
            self._unroll(memory.select(part.to(self.model.device)), moves, [noise_seeds[row] for row in part.tolist()])
            for part, moves in zip(rows.split(self.max_rows), flat.split(self.max_rows), strict=True)
        ]
        return torch.cat(chunks).view(memory.batch_size, candidates)

    def _unroll(self, memory: Memory, actions: Tensor, noise_seeds: list[int]) -> Tensor:
        generators = [torch.Generator(self.model.device).manual_seed(seed) for seed in noise_seeds]
        returns = torch.zeros(len(noise_seeds), device=self.model.device)
        weight = torch.ones_like(returns)
        for action in actions.unbind(1):
            step = self.model.imagine(memory, action, generators, denoise_steps=self.denoise_steps)
            # The reward for reaching the end counts; only what would follow it does not.
            returns += weight * step.reward
            weight = weight * self.discount * (1 - step.terminated)
            memory = step.memory
        return returns


def _noise_seed(seed: int, frames: int) -> int:
    return int(np.random.SeedSequence([seed, frames]).generate_state(1, np.uint32)[0])
