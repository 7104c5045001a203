"""DreamVectorEnv: N dreams as a Gymnasium vector environment, one network call per step for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from lssvwm_envs.checks import check_actions
from lssvwm_envs.dream.checks import check_options
from lssvwm_envs.dream.config import DreamConfig, End
from lssvwm_envs.dream.dreams import Dreams
from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.picture import check_render, draw
from lssvwm_envs.dream.state import DreamState
from lssvwm_envs.observation import Observation, observation_space
from lssvwm_envs.rows import advance, check_autoreset_mode, check_ready, seed_rows, to_numpy, to_step_result
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.spaces import action_layout


class DreamVectorEnv(VectorEnv):
    """`DreamEnv`, `num_envs` times: after a reset with seed s, row i dreams what a single one with seed s + i does.

    It draws the same contexts and noise; frames are equal up to the rounding of batches, whose sums have another order.

    Args:
        num_envs: N.
        autoreset_mode: Gymnasium's, "NextStep", "SameStep" or "Disabled". If disabled, finished rows are begun anew by
            `reset(options={"reset_mask": mask})`, and must be before the next step.

    All other arguments and errors are `DreamEnv`'s; also

    Raises:
        ValueError: if num_envs is below 1.
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        num_envs: int = 1,
        context_length: int = 1,
        horizon: int = 256,
        denoise_steps: int = 4,
        device: str = "cpu",
        engine: str = "auto",
        observation: Observation = "image",
        render_mode: str | None = None,
        render_memory: bool = False,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        start: float | str = "first",
        contexts: str | None = None,
        end: End = "threshold",
        doubt_limit: float | None = None,
        doubt_penalty: float = 0.0,
        temperature: float = 1.0,
        compiled: bool | None = None,
    ):
        if not isinstance(num_envs, (int, np.integer)) or num_envs < 1:
            raise ValueError(f"num_envs must be a whole number of at least 1, got {num_envs!r}.")
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
        self._dreams = Dreams(config, num_envs)
        check_render(self.model, render_mode, render_memory)
        self.num_envs, self.render_mode, self.render_memory = num_envs, render_mode, render_memory
        self.autoreset_mode = check_autoreset_mode(autoreset_mode)
        self.metadata = {**DreamEnv.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = observation_space(self.model, observation)
        self.single_action_space = self._dreams.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    @property
    def model(self) -> WorldModel:
        """Shared by all environments of the process with this checkpoint; not to be changed."""
        return self._dreams.model

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin dreams in all rows, or in those of `options["reset_mask"]` (N,) bool; the others stay as they are.

        Args:
            seed: of row 0, row i has seed + i; or one for each row.
            options: also those of `DreamEnv.reset`, for all rows to be reset.

        Raises:
            ValueError: as `DreamEnv.reset`, or if the mask or the seeds do not fit the rows.
        """
        options = check_options(options, ("context", "state", "reset_mask"))
        start = self._dreams.start_of(options)
        info = self._dreams.begin(seed_rows(self._dreams, seed, options), start)
        return to_numpy(self._dreams.observe()), info

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Dream one step in every row.

        With next-step autoreset, rows that had ended begin anew instead, whatever their action; with same-step
        autoreset, rows that end begin anew at once, and their end is in info["final_obs"] and info["final_info"].

        Raises:
            gymnasium.error.ResetNeeded: if a row has had no dream yet, or has ended and autoreset is disabled.
            gymnasium.error.InvalidAction: if the actions are not in the action space.
        """
        check_ready(self._dreams, self.autoreset_mode)
        _, dtype = action_layout(self.single_action_space)
        moves = torch.from_numpy(np.asarray(check_actions(actions, self.action_space), dtype))
        return to_step_result(advance(self._dreams, moves.to(self.model.device), self.autoreset_mode))

    def step_torch(self, actions: Tensor) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """`step` with tensors on the model's device in and out; they are not copied to the host.

        Args:
            actions: (N[, A]); not checked against the action space, since that would wait for the device.

        Returns:
            As `step`. The info holds what the model says of every row's step, and, with same-step autoreset, the
            observations of all rows before the resets as "final_obs", of which those of "_final_obs" (N,) were the
            last of an episode.

        Raises:
            gymnasium.error.ResetNeeded: as `step`.
            gymnasium.error.InvalidAction: if their shape is wrong.
        """
        check_ready(self._dreams, self.autoreset_mode)
        shape, dtype = action_layout(self.single_action_space)
        if tuple(actions.shape) != (self.num_envs, *shape):
            raise gym.error.InvalidAction(
                f"Actions of shape {tuple(actions.shape)} do not fit; give {(self.num_envs, *shape)}."
            )
        moves = actions.to(torch.from_numpy(np.zeros(0, dtype)).dtype)
        transition = advance(self._dreams, moves, self.autoreset_mode)
        step, info = transition.step, dict[str, Any](transition.step.info)
        device = self.model.device
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            finished = torch.from_numpy(transition.finished).to(device)
            info |= {"final_obs": transition.last, "_final_obs": finished}
        ends = (torch.from_numpy(part).to(device) for part in (step.terminated, step.truncated))
        return transition.observation, step.reward, *ends, info

    def render(self) -> Any:
        """What `DreamEnv.render` shows, for every row; None without a render mode."""
        if self.render_mode is None:
            return None
        memory = self._dreams.memory if self.render_memory else None
        return tuple(draw(self.model, self._dreams.frames, memory, self._dreams.doubted()))

    def get_state(self, row: int) -> DreamState:
        """Where a row is, as `DreamEnv.get_state`; single and vector environments take each other's states.

        Raises:
            IndexError: if there is no such row.
            gymnasium.error.ResetNeeded: if it has had no dream yet.
        """
        return self._dreams.state(self._row(row))

    def set_state(self, row: int, state: DreamState) -> None:
        """Let one row go on from a state; the others stay as they are.

        In the same row of as many, the same actions give bit-identical frames; in a `causal` model, only if the others
        look back as far. Elsewhere sums may be rounded otherwise.

        Raises:
            IndexError: if there is no such row.
            ValueError: if the state is another model's.
        """
        self._restore(np.arange(self.num_envs) == self._row(row), state)

    def fork(self, state: DreamState, n: int | None = None, seed: int | None = None) -> tuple[Any, dict[str, Any]]:
        """Let the first n rows, all by default, go on from one state; what `reset` returns.

        Args:
            seed: if given, row i draws its noise anew from seed + i, so equal actions lead to different futures. If
                not, every row draws the noise that the state would have drawn, and differs by its actions only.

        Raises:
            ValueError: if there are fewer than n rows, or the state is another model's.
        """
        n = self.num_envs if n is None else n
        if not 1 <= n <= self.num_envs:
            raise ValueError(f"Cannot fork into {n} rows; this environment has {self.num_envs}.")
        if seed is not None:
            seeding.np_random(seed)  # says what is wrong with it before anything is changed
        first = np.arange(self.num_envs) < n
        self._restore(first, state)
        if seed is not None:
            self._dreams.reseed(first, seed)
        return to_numpy(self._dreams.observe()), {}

    def _restore(self, mask: np.ndarray, state: DreamState) -> None:
        self._dreams.check_state(state)
        self._dreams.begin(mask, state)

    def _row(self, row: int) -> int:
        if not 0 <= row < self.num_envs:
            raise IndexError(f"There is no row {row}; this environment has {self.num_envs}.")
        return int(row)
