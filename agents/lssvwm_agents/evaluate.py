"""Evaluation of anything with Stable-Baselines3's `predict` in a Gymnasium environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from lssvwm_rl.data.splits import split_seed
from lssvwm_rl.policy import Policy


@dataclass(frozen=True)
class EvaluationResult:
    """What happened in the episodes, in the order of their seeds."""

    returns: np.ndarray
    """(episodes,) float64 undiscounted sums of rewards."""
    lengths: np.ndarray
    """(episodes,) int64 steps."""
    seconds: float
    """Wall time of the whole evaluation."""
    first_actions: np.ndarray
    """(lengths[0], ...) actions of the first episode, which play it again in an environment that its seed decides."""

    @property
    def success_rate(self) -> float:
        """Fraction of episodes with a return above zero, which is what success means in goal-reaching tasks."""
        return float((self.returns > 0).mean())

    @property
    def success_error(self) -> float:
        """Standard error of `success_rate`."""
        return float(np.sqrt(self.success_rate * (1 - self.success_rate) / len(self.returns)))

    @property
    def mean_return(self) -> float:
        """Mean undiscounted return."""
        return float(self.returns.mean())

    @property
    def return_error(self) -> float:
        """Standard error of `mean_return`; 0 for a single episode."""
        count = len(self.returns)
        return float(self.returns.std(ddof=1) / np.sqrt(count)) if count > 1 else 0.0

    @property
    def seconds_per_step(self) -> float:
        """Wall time divided by the steps of all episodes."""
        return self.seconds / max(int(self.lengths.sum()), 1)

    def to_json(self) -> dict[str, Any]:
        """All numbers, as JSON values."""
        return {
            "episodes": len(self.returns),
            "success_rate": self.success_rate,
            "success_error": self.success_error,
            "mean_return": self.mean_return,
            "return_error": self.return_error,
            "mean_length": float(self.lengths.mean()),
            "seconds": self.seconds,
            "seconds_per_step": self.seconds_per_step,
            "returns": self.returns.tolist(),
            "lengths": self.lengths.tolist(),
        }


def evaluate_policy(
    policy: Policy | Callable[[VectorEnv], Policy],
    make_env: Callable[[], gym.Env],
    episodes: int,
    num_envs: int = 4,
    seed: int = 0,
    deterministic: bool = False,
    wrap_vector: Callable[[VectorEnv], VectorEnv] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationResult:
    """Run a policy for exactly `episodes` whole episodes.

    Episode j is world `seed + j` of the test split (`lssvwm_rl.data.splits`) and always runs in sub-environment
    j modulo `num_envs`, so that short episodes are not counted more often than long ones and the same ones are played
    whatever `num_envs` is.

    Args:
        policy: or what makes one for the vector environment, if it looks inside of that.
        make_env: makes one environment; its episodes must end.
        num_envs: environments stepped together, at most one per episode is used.
        wrap_vector: put around the vector environment, for example `VectorMemoryObservation`.
        progress: called with (finished episodes, all episodes).

    Raises:
        ValueError: if `episodes` or `num_envs` is below 1.
    """
    if episodes < 1 or num_envs < 1:
        raise ValueError(f"Need at least one episode and one environment, not {episodes} and {num_envs}.")
    num_envs = min(num_envs, episodes)
    returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
    started = time.perf_counter()
    envs: VectorEnv = SyncVectorEnv(
        [partial(_seeded, make_env, split_seed("test", seed + i), num_envs) for i in range(num_envs)],
        autoreset_mode=AutoresetMode.NEXT_STEP,
    )
    try:
        envs = wrap_vector(envs) if wrap_vector else envs
        observation, _ = envs.reset()
        actor = policy if hasattr(policy, "predict") else policy(envs)
        first_actions: list[Any] = []
        episode = np.arange(num_envs)
        first, done = np.ones(num_envs, bool), np.zeros(num_envs, bool)
        state: Any = None
        finished = 0
        while finished < episodes:
            actions, state = actor.predict(observation, state, first, deterministic)
            observation, rewards, terminated, truncated, _ = envs.step(actions)
            # Where the step before ended an episode, this one was the reset: its action was ignored.
            counted = ~done & (episode < episodes)
            returns[episode[counted]] += rewards[counted]
            lengths[episode[counted]] += 1
            if episode[0] == 0:
                first_actions.append(actions[0])
            first, done = done, terminated | truncated
            ended = counted & done
            episode[ended] += num_envs
            if ended.any():
                finished += int(ended.sum())
                if progress:
                    progress(finished, episodes)
    finally:
        envs.close()
    return EvaluationResult(returns, lengths, time.perf_counter() - started, np.stack(first_actions))


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[..., None]]:
    """A rich progress bar with time left, as a function of (done, total[, mean return][, note])."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}")) as bar:
        task = bar.add_task(description, total=None, note="")

        def update(done: int, total: int, mean_return: float | None = None, note: str = "") -> None:
            note = note if mean_return is None else f"return {mean_return:.3f}"
            bar.update(task, completed=min(done, total), total=total, note=note)

        yield update


def _seeded(make_env: Callable[[], gym.Env], first_seed: int, stride: int) -> gym.Env:
    return _SeededEpisodes(make_env(), first_seed, stride)


class _SeededEpisodes(gym.Wrapper):
    """Resets episode k with seed `first_seed + k * stride`, whoever asks for the reset."""

    def __init__(self, env: gym.Env, first_seed: int, stride: int) -> None:
        super().__init__(env)
        self._next_seed = first_seed
        self._stride = stride

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        seed, self._next_seed = self._next_seed, self._next_seed + self._stride
        return self.env.reset(seed=seed, options=options)
