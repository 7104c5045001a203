"""The one loop that plays vector environments: for data, for trials, for returns, and for a second look."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from lssvwm_rl.policy import Policy
from lssvwm_rl.spaces import counted_from

LONG = 20_000  # steps after which an episode is said to have no end; the longest published ones have 4,000


@dataclass(frozen=True)
class Start:
    """Rows of N environments were reset."""

    rows: np.ndarray
    """(N,) bool, those with an episode that begins."""
    seeds: np.ndarray
    """(N,) int64, of every row's episode."""
    observation: Any
    """Of all rows, as Gymnasium gives it. The environment may overwrite it in its next step."""
    info: dict[str, Any]
    """Of the rows that were reset."""


@dataclass(frozen=True)
class Step:
    """N environments took one step."""

    rows: np.ndarray
    """(N,) bool, those in an episode; the others wait for them, and what they do is of no meaning."""
    observation: Any
    """Of all rows, in an episode's last step its last. The environment may overwrite it in its next step."""
    info: dict[str, Any]
    """Of all rows."""
    actions: np.ndarray
    """(N[, A]), what the policy did."""
    rewards: np.ndarray
    """(N,) float64."""
    terminated: np.ndarray
    """(N,) bool."""
    truncated: np.ndarray
    """(N,) bool."""

    @property
    def ended(self) -> np.ndarray:
        """(N,) bool, rows whose episode this step ended."""
        return self.rows & (self.terminated | self.truncated)


def play(
    envs: VectorEnv, policy: Policy, seeds: Sequence[Iterator[int]], deterministic: bool = False
) -> Iterator[Start | Step]:
    """Play whole episodes, each in the world of its seed, until no seed is left.

    Rows are reset here and not by autoreset, so that every episode has its own seed and no reset looks like a step. A
    row that has no seed left plays its last world again while others have not ended.

    Args:
        envs: N environments with autoreset disabled.
        policy: gets its own state back in every step. One whose `action_space` counts from 0 what the environment
            counts from elsewhere, as all of Stable-Baselines3's do, has its actions shifted.
        seeds: N, those of a row's episodes, the next one being asked for when an episode has ended; rows may share
            an iterator.
        deterministic: what the policy is called with.

    Raises:
        ValueError: if there is no seed for every row to begin with, or an action is not in the action space.
    """
    first = [next(queue, None) for queue in seeds]
    if len(first) != envs.num_envs or None in first:
        raise ValueError(f"{envs.num_envs} environments need a seed each to begin with, got {first}; make fewer.")
    worlds, rows, ended = np.array(first, np.int64), np.ones(envs.num_envs, bool), np.ones(envs.num_envs, bool)
    reset_seeds: Any = worlds.tolist()  # VectorEnv takes a list as well as a number, its annotation does not say so
    observation, info = envs.reset(seed=reset_seeds)
    yield Start(rows, worlds, observation, info)
    state: Any = None
    taken = np.zeros(envs.num_envs, np.int64)
    while rows.any():
        actions, state = policy.predict(observation, state=state, episode_start=ended, deterministic=deterministic)
        actions = counted_from(actions, policy, envs.single_action_space)
        _check_actions(actions, envs)
        observation, rewards, terminated, truncated, info = envs.step(actions)
        yield Step(rows, observation, info, actions, rewards, terminated, truncated)
        ended = terminated | truncated
        taken = np.where(ended, 0, taken + 1)
        if (taken == LONG).any():
            _warn_of_no_end(int(worlds[taken == LONG][0]))
        rows, worlds = _next_episodes(rows, worlds, ended, seeds)
        if rows.any() and ended.any():
            reset_seeds = worlds.tolist()
            observation, info = envs.reset(seed=reset_seeds, options={"reset_mask": ended.copy()})
            yield Start(rows & ended, worlds, observation, info)


def _next_episodes(
    rows: np.ndarray, worlds: np.ndarray, ended: np.ndarray, seeds: Sequence[Iterator[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows in an episode once those that ended are reset, and the seeds of all rows."""
    rows, worlds = rows.copy(), worlds.copy()
    for i in np.flatnonzero(ended).tolist():
        seed = next(seeds[i], None)
        rows[i] = seed is not None
        worlds[i] = worlds[i] if seed is None else seed
    return rows, worlds


def _warn_of_no_end(seed: int) -> None:
    warnings.warn(
        f"The episode of seed {seed:,} has had {LONG:,} steps and no end, and an episode without end is never stored; "
        "cut episodes with --max-episode-steps (max_episode_steps of gymnasium.make).",
        RuntimeWarning,
        stacklevel=3,
    )


def _check_actions(actions: np.ndarray, envs: VectorEnv) -> None:
    if len(actions) != envs.num_envs or not all(envs.single_action_space.contains(a) for a in np.asarray(actions)):
        raise ValueError(f"The policy gave actions {actions}, which are not in {envs.single_action_space}.")
