"""Scoring candidate action sequences: the seam between a planner and whatever predicts returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from lssvwm_agents.planning.prefixes import Tree, distinct, trees
from lssvwm_rl.model.engine import Engine, engine_of
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.outputs import Imagined
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.spaces import action_layout, space_from_json


class Dynamics(Protocol):
    """Anything that predicts the returns of action sequences; what `memory` is, is its own choice."""

    @property
    def action_space(self) -> gym.Space:
        """The space of one action."""

    def evaluate(self, memory: Any, actions: Tensor) -> Tensor:
        """Returns (B, S), floats, of S candidate sequences for each of the B rows of `memory`.

        Args:
            memory: B starting points; not changed.
            actions: (B, S, horizon) int64 for Discrete, else (B, S, horizon, A) int64 or float32, as the
                environment takes them.
        """


class WorldModelDynamics:
    """Returns predicted by unrolling a world model, without gradients.

    All candidates of one row meet the same diffusion noise (common random numbers), so that their returns differ by
    their actions alone. The noise depends on the seed and the row's frame counter only: repeated calls agree up to the
    rounding of sums, a row does not depend on its neighbours, and the next real step draws new noise. Therefore
    candidates that begin with the same actions have the same future so far, which is unrolled once.

    What comes after the last step can be told by a critic, for example that of a saved policy, see `critic_value`.
    """

    def __init__(
        self,
        model: WorldModel | Engine,
        discount: float = 0.99,
        denoise_steps: int = 1,
        seed: int = 0,
        max_rows: int = 256,
        terminal_value: Callable[[Memory], Tensor] | None = None,
        reward: Callable[[Imagined], Tensor] | None = None,
    ) -> None:
        """
        Args:
            model: or the engine that runs it; a model is run with the weights that it has now.
            discount: per step, in (0, 1].
            denoise_steps: network passes per imagined frame.
            max_rows: futures unrolled at a time, which bounds the memory used.
            terminal_value: returns (M,) to be expected from the M rows of a memory on, discounted as here. Added to
                the rewards, weighted by the discount and the chance of being alive after the last step.
            reward: what one dreamt step earns, (M,); the model's own reward if None. See `goals`.
        """
        if not 0 < discount <= 1:
            raise ValueError(f"The discount {discount} is outside (0, 1]; use for example 0.99.")
        if denoise_steps < 1 or max_rows < 1:
            raise ValueError(f"denoise_steps {denoise_steps} and max_rows {max_rows} must be at least 1.")
        self.engine = engine_of(model)
        self.discount = discount
        self.denoise_steps = denoise_steps
        self.seed = seed
        self.max_rows = max_rows
        self.terminal_value = terminal_value
        self.reward = reward
        self.action_space = space_from_json(self.engine.model.config.action_space)

    @torch.no_grad()
    def evaluate(self, memory: Memory, actions: Tensor) -> Tensor:
        """See `Dynamics.evaluate`: sum of discounted rewards, each weighted by the chance of being alive before it, and
        the terminal value.

        Returns:
            (B, S) in the dtype of the model's rewards.

        Raises:
            ValueError: if `actions` do not fit the memory's rows or the action space, or rewards or terminal values
                the rows.
        """
        action_shape, _ = action_layout(self.action_space)
        if (
            actions.ndim < 3
            or 0 in actions.shape
            or actions.shape[0] != memory.batch_size
            or tuple(actions.shape[3:]) != action_shape
        ):
            expected = (memory.batch_size, "S", "horizon", *action_shape)
            raise ValueError(f"Actions of shape {tuple(actions.shape)} do not fit; give {expected}.")
        rows, sequences, place = distinct(actions.to(self.engine.model.device))
        seeds = [_noise_seed(self.seed, frames) for frames in memory.frames.tolist()]
        parts = [self._unroll(memory, tree, seeds) for tree in trees(rows, sequences, self.max_rows)]
        return torch.cat(parts)[place].view(actions.shape[:2])

    def _unroll(self, memory: Memory, tree: Tree, seeds: list[int]) -> Tensor:
        """Returns of a tree's sequences; `seeds` are those of the noise of the memory's rows."""
        device = self.engine.model.device
        drawn = sorted({seeds[row] for row in tree.rows})
        noise_of = torch.tensor([drawn.index(seed) if seed in drawn else 0 for seed in seeds], device=device)
        generators = [torch.Generator(device).manual_seed(seed) for seed in drawn]
        returns = torch.zeros(memory.batch_size, dtype=memory.features.dtype, device=device)
        weight = torch.ones_like(returns)
        for level in tree.levels:
            if not level.straight:
                memory, returns, weight = memory.select(level.parent), returns[level.parent], weight[level.parent]
            noise = self.engine.draw(generators)[noise_of[level.row]]
            step = self.engine.imagine(memory, level.action, noise, self.denoise_steps)
            # The reward for reaching the end counts; only what would follow it does not.
            earned = step.reward if self.reward is None else _of_rows(self.reward(step), returns, "Rewards")
            returns = returns + weight * earned
            weight = weight * self.discount * (1 - step.terminated)
            memory = step.memory
        if self.terminal_value is None:
            return returns
        return returns + weight * _of_rows(self.terminal_value(memory), returns, "Terminal values")


def _of_rows(values: Tensor, returns: Tensor, what: str) -> Tensor:
    """Numbers that a caller's function gave, one for each of the rows of `returns` (M,), on their device."""
    if values.shape != returns.shape:
        raise ValueError(f"{what} of shape {tuple(values.shape)} are not ({len(returns)},); give one for every row.")
    return values.to(returns)


def _noise_seed(seed: int, frames: int) -> int:
    return int(np.random.SeedSequence([seed, frames]).generate_state(1, np.uint32)[0])
