"""Walks through MiniGrid-Memory with something to remember."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from minigrid.envs import MemoryEnv

from lssvwm_envs.explorers.memory_view import LEFT, Pose, Sights, ends, moved, pose_of, way
from lssvwm_envs.explorers.registry import explorer, made_of
from lssvwm_envs.make import single_envs
from lssvwm_rl.policy import kept_by


@dataclass
class _Walk:
    """What is left to do in one episode."""

    rng: np.random.Generator
    goals: Iterator[Callable[[Pose], bool]]
    goal: Callable[[Pose], bool]
    target: tuple[int, int]
    random_rate: float


@explorer("memory-walker", suits=made_of(MemoryEnv))
class MemoryWalker:
    """Walks MiniGrid-Memory so that there is something to remember, reading the simulator's state.

    It goes to where the object of the first room is in view, turns away and comes back to it 1 to 3 times, then walks
    to one of the two ends, the right one half of the time; a quarter of the walks first look at both ends. 60 / 20 /
    20 % of the walks take 0 / 10 / 50 % random steps. A walk depends only on the policy's and the environment's seed.

    Args:
        envs: a SyncVectorEnv of MiniGrid-Memory environments.
        seed: of the walks.
        blind: share of the walks that go to an end without looking at the object first. Without any, a model never
            learns that ignorance does not pay, and an agent trained in its dream does not look either.
    """

    by_world = True
    """See `MazeExplorer.by_world`."""

    def __init__(self, envs: VectorEnv, seed: int, blind: float = 0.2) -> None:
        self.envs, self.seed, self.blind, self.sights = single_envs(envs), seed, blind, Sights()

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Actions (n,) int64; the state is every sub-environment's walk."""
        walks = kept_by(self.envs, state, episode_start, self._begin)
        return np.array([_next_action(env, walk) for env, walk in zip(self.envs, walks, strict=True)]), walks

    def _begin(self, env: Any) -> _Walk:
        rng = np.random.default_rng([self.seed, env.np_random_seed % 2**63])
        sees = self.sights.of(env)
        x, y = env.success_pos[0], env.height // 2
        hidden = sorted(
            (i, j, d)
            for i in range(1, x + 1)
            for j in range(1, env.height - 1)
            for d in range(4)
            if env.grid.get(i, j) is None and (i, j) not in ends(env) and (i, j, d) not in sees
        )
        hidden = [pose for pose in hidden if way(env, pose_of(env), pose.__eq__) is not None]
        goals: list[Callable[[Pose], bool]] = []
        if rng.random() >= self.blind:
            goals.append(sees.__contains__)
            for _ in range(rng.integers(1, 4)):
                goals += [hidden[rng.integers(len(hidden))].__eq__, sees.__contains__]
        if rng.random() < 0.25:
            goals += [(x, y, direction).__eq__ for direction in rng.permutation([1, 3]).tolist()]
        target = env.success_pos if rng.random() < 0.5 else env.failure_pos
        goals.append(lambda pose: pose[:2] == tuple(target))
        random_rate = rng.choice([0.0, 0.1, 0.5], p=[0.6, 0.2, 0.2])
        remaining = iter(goals)
        return _Walk(rng, remaining, next(remaining), tuple(target), float(random_rate))


# After the walker, which is what "explore" is here.
@explorer("memory-oracle", suits=made_of(MemoryEnv))
class MemoryOracle:
    """Goes to where the object of the first room is in view, then to the end with the same one, by the shortest ways.

    As good as one can be who has to look: it reads the simulator's state. There is no randomness in it.

    Args:
        envs: a SyncVectorEnv of MiniGrid-Memory environments.
        seed: not used.
    """

    def __init__(self, envs: VectorEnv, seed: int) -> None:
        self.envs, self.sights = single_envs(envs), Sights()

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Actions (n,) int64; the state is (n,) bool, who has seen the object in this episode."""
        seen = np.array(kept_by(self.envs, state, episode_start, lambda env: False))
        seen = seen | [pose_of(env) in self.sights.of(env) for env in self.envs]
        return np.array([self._towards(env, saw) for env, saw in zip(self.envs, seen, strict=True)]), seen

    def _towards(self, env: Any, seen: bool) -> int:
        target, sees = tuple(env.success_pos), self.sights.of(env)
        actions = way(env, pose_of(env), lambda pose: pose[:2] == target if seen else pose in sees, target)
        return actions[0] if actions else LEFT  # the episode has ended; this step does not count


def _next_action(env: Any, walk: _Walk) -> int:
    pose = pose_of(env)
    while walk.goal(pose):
        following = next(walk.goals, None)
        if following is None:
            return LEFT  # the episode has ended; this step is not recorded
        walk.goal = following
    if walk.rng.random() < walk.random_rate:
        # Of all actions: what a model has never seen done, an agent in its dream will exploit.
        action = int(walk.rng.integers(env.action_space.n))
        if moved(pose, action)[:2] not in ends(env):
            return action
    actions = way(env, pose, walk.goal, walk.target)
    return actions[0] if actions else LEFT
