"""DreamVectorEnv: N dreams as a Gymnasium vector environment, one network call per step for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from lssvwm_envs.dream.dreams import DreamConfig, Dreams, check_actions, check_options, to_numpy
from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.picture import check_render, draw
from lssvwm_envs.dream.state import DreamState
from lssvwm_envs.observation import Observation, observation_space
from lssvwm_envs.rows import check_autoreset_mode, final_entries, reset_mask, row_seeds, with_masks
from lssvwm_rl.data.store import Episode
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.spaces import action_layout


class _Step(NamedTuple):
    observation: Any  # after resets
    last: Any  # before them
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    told: dict[str, Tensor]  # by the model, of every row's step
    ended: np.ndarray  # (N,) bool, rows whose last observation is in `last` only
    fresh: np.ndarray  # (N,) bool, rows that this step began anew
    drawn: dict[str, np.ndarray]  # of these


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
        compiled: bool = False,
        observation: Observation = "image",
        render_mode: str | None = None,
        render_memory: bool = False,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
    ):
        if not isinstance(num_envs, (int, np.integer)) or num_envs < 1:
            raise ValueError(f"num_envs must be a whole number of at least 1, got {num_envs!r}.")
        config = DreamConfig(checkpoint, context_length, horizon, denoise_steps, device, compiled)
        self._dreams = Dreams(config, num_envs)
        check_render(self.model, render_mode, render_memory)
        self.num_envs, self.observation = num_envs, observation
        self.render_mode, self.render_memory = render_mode, render_memory
        self.autoreset_mode = check_autoreset_mode(autoreset_mode)
        self.metadata = {**DreamEnv.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = observation_space(self.model, observation)
        self.single_action_space = self._dreams.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._over = np.zeros(num_envs, bool)

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
        mask, seeds = reset_mask(options, self.num_envs), row_seeds(seed, self.num_envs)
        state, given = self._dreams.start_of(options)
        rows = np.flatnonzero(mask)
        rngs = {i: seeding.np_random(seeds[i])[0] for i in rows.tolist() if seeds[i] is not None}
        for i, rng in rngs.items():  # only now, when no seed is wrong
            self._dreams.rngs[i] = rng
        if state is not None:
            self._restore(rows, state)
            drawn: dict[str, np.ndarray] = {}
        else:
            drawn = self._begin(mask, given)
        return to_numpy(self._dreams.observe(self.observation)), with_masks(drawn, mask)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Dream one step in every row.

        With next-step autoreset, rows that were over begin anew instead, whatever their action; with same-step
        autoreset, rows that end begin anew at once and tell of their end in info["final_obs"] and info["final_info"].

        Raises:
            gymnasium.error.ResetNeeded: if a row has not begun, or is over and autoreset is disabled.
            gymnasium.error.InvalidAction: if the actions are not in the action space.
        """
        self._check_running()
        _, dtype = action_layout(self.single_action_space)
        moves = torch.from_numpy(np.asarray(check_actions(actions, self.action_space), dtype))
        step = self._advance(moves.to(self.model.device))
        told = to_numpy(step.told)
        info = {**with_masks(told, ~step.fresh), **with_masks(step.drawn, step.fresh)}
        if step.ended.any():
            info |= final_entries(to_numpy(step.last), told, step.ended)
        parts = (step.reward, step.terminated, step.truncated)
        reward, terminated, truncated = (part.cpu().numpy() for part in parts)
        return to_numpy(step.observation), reward, terminated, truncated, info

    def step_torch(self, actions: Tensor) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """`step` with tensors on the model's device in and out; they are not copied to the host.

        Args:
            actions: (N[, A]); not checked against the action space, since that would wait for the device.

        Returns:
            As `step`. The info holds what the model tells of every row's step, and, with same-step autoreset, the
            observations of all rows before the resets as "final_obs", of which those of "_final_obs" (N,) were the
            last of an episode.

        Raises:
            gymnasium.error.ResetNeeded: as `step`.
            gymnasium.error.InvalidAction: if their shape is wrong.
        """
        self._check_running()
        shape, dtype = action_layout(self.single_action_space)
        if tuple(actions.shape) != (self.num_envs, *shape):
            raise gym.error.InvalidAction(
                f"Actions of shape {tuple(actions.shape)} do not fit; give {(self.num_envs, *shape)}."
            )
        step = self._advance(actions.to(torch.from_numpy(np.zeros(0, dtype)).dtype))
        info: dict[str, Any] = dict(step.told)
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            info |= {"final_obs": step.last, "_final_obs": torch.from_numpy(step.ended).to(self.model.device)}
        return step.observation, step.reward, step.terminated, step.truncated, info

    def render(self) -> Any:
        """What `DreamEnv.render` shows, for every row; None without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(draw(self.model, self._dreams.frames, self._dreams.memory if self.render_memory else None))

    def get_state(self, row: int) -> DreamState:
        """Where a row is, as `DreamEnv.get_state`; single and vector environments take each other's states.

        Raises:
            IndexError: if there is no such row.
            gymnasium.error.ResetNeeded: if it has not begun.
        """
        row = self._row(row)
        return self._dreams.state(row, bool(self._over[row]))

    def set_state(self, row: int, state: DreamState) -> None:
        """Let one row go on from a state; the others stay as they are.

        In the same row of as many, the same actions give bit-identical frames; in a `causal` model, only if the others
        look back as far. Elsewhere sums may be rounded otherwise.

        Raises:
            IndexError: if there is no such row.
            ValueError: if the state is another model's.
        """
        self._restore(np.array([self._row(row)]), state)

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
        self._restore(np.arange(n), state)
        if seed is not None:
            self._dreams.reseed(np.arange(n), seed)
        return to_numpy(self._dreams.observe(self.observation)), {}

    def _advance(self, actions: Tensor) -> _Step:
        over = self._over
        dreamt = self._dreams.step(actions)
        reward, terminated, truncated = dreamt.reward, dreamt.terminated, dreamt.truncated
        told = {"terminated_probability": dreamt.probability}
        if dreamt.vector is not None:
            told["vector"] = dreamt.vector
        drawn: dict[str, np.ndarray] = {}
        if over.any():  # next-step, or restored at their end: their step only begins anew
            drawn = self._begin(over, None)
            running = torch.from_numpy(~over).to(self.model.device)
            reward, terminated, truncated = reward * running, terminated & running, truncated & running
        done = (terminated | truncated).cpu().numpy()
        observation = last = self._dreams.observe(self.observation)
        self._over = done
        ended = done & (self.autoreset_mode == AutoresetMode.SAME_STEP)
        if ended.any():
            begun = self._begin(ended, None)
            drawn = {name: np.where(ended, part, drawn.get(name, part)) for name, part in begun.items()}
            observation = self._dreams.observe(self.observation)
        return _Step(observation, last, reward, terminated, truncated, told, ended, over | ended, drawn)

    def _begin(self, mask: np.ndarray, given: Episode | None) -> dict[str, np.ndarray]:
        episodes = self._dreams.begin(np.flatnonzero(mask), given)
        self._over = self._over & ~mask
        if not episodes:
            return {}
        drawn = np.zeros(self.num_envs, np.int64)
        drawn[mask] = episodes
        return {"context_episode": drawn}

    def _restore(self, rows: np.ndarray, state: DreamState) -> None:
        self._dreams.restore(rows, state)
        self._over = self._over.copy()
        self._over[rows] = state.ended

    def _row(self, row: int) -> int:
        if not 0 <= row < self.num_envs:
            raise IndexError(f"There is no row {row}; this environment has {self.num_envs}.")
        return int(row)

    def _check_running(self) -> None:
        if not self._dreams.begun.all():
            rows = np.flatnonzero(~self._dreams.begun).tolist()
            raise gym.error.ResetNeeded(f"The dreams of rows {rows} have not begun; call reset() before step().")
        if self.autoreset_mode == AutoresetMode.DISABLED and self._over.any():
            rows = np.flatnonzero(self._over).tolist()
            raise gym.error.ResetNeeded(f"The dreams of rows {rows} are over; reset them with options['reset_mask'].")
