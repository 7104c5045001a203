"""Evaluation of anything with Stable-Baselines3's `predict` in a Gymnasium environment."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from lssvwm_rl.data.play import Start, play
from lssvwm_rl.data.splits import split_seed
from lssvwm_rl.measures.intervals import mean_interval, wilson_interval
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
    def success_interval(self) -> tuple[float, float]:
        """95 % confidence interval of the probability of success (Wilson's)."""
        return wilson_interval(int((self.returns > 0).sum()), len(self.returns))

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
    def return_interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the mean return (Student's); None for a single episode."""
        return mean_interval(self.returns)

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
            "success_interval": self.success_interval,
            "mean_return": self.mean_return,
            "return_error": self.return_error,
            "return_interval": self.return_interval,
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
        ValueError: if `episodes` or `num_envs` is below 1, or an action is not in the action space.
    """
    if episodes < 1 or num_envs < 1:
        raise ValueError(f"Need at least one episode and one environment, not {episodes} and {num_envs}.")
    num_envs = min(num_envs, episodes)
    worlds = [split_seed("test", seed + j) for j in range(episodes)]
    returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
    episode, finished = np.arange(num_envs), 0
    first_actions: list[np.ndarray] = []
    started = time.perf_counter()
    envs: VectorEnv = SyncVectorEnv([make_env] * num_envs, autoreset_mode=AutoresetMode.DISABLED)
    try:
        envs = wrap_vector(envs) if wrap_vector else envs
        actor = policy if hasattr(policy, "predict") else policy(envs)
        queues = [iter(worlds[i::num_envs]) for i in range(num_envs)]
        for event in play(envs, actor, queues, deterministic):
            if isinstance(event, Start):
                continue
            returns[episode[event.rows]] += event.rewards[event.rows]
            lengths[episode[event.rows]] += 1
            if episode[0] == 0:
                first_actions.append(event.actions[0])
            episode[event.ended] += num_envs
            finished += int(event.ended.sum())
            if event.ended.any() and progress:
                progress(finished, episodes)
    finally:
        envs.close()
    return EvaluationResult(returns, lengths, time.perf_counter() - started, np.stack(first_actions))
