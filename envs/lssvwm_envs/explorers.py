"""Scripted policies for data collection: worlds are only worth learning from if the data shows what matters."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from lssvwm_rl.policy import Policy, RandomPolicy

LEFT, RIGHT, FORWARD = 0, 1, 2
DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))
Pose = tuple[int, int, int]  # x, y, direction


def explorer_named(name: str) -> Callable[[VectorEnv, int], Policy] | None:
    """What makes the scripted policy of that name for some environments: "random", "explore", or a walk of
    `memory_maze.explorers.WALKS`; None if there is none.
    """
    from lssvwm_envs.memory_maze.explorers import WALKS, MazeExplorer

    if name == "random":
        return lambda envs, seed: RandomPolicy(envs.single_action_space, seed)
    if name == "explore":
        return make_explorer
    return partial(MazeExplorer, walk=WALKS[name]) if name in WALKS else None


def make_explorer(envs: VectorEnv, seed: int, blind: float = 0.2) -> Policy:
    """The explorer that suits the environments: privileged walkers for MemoryMaze, MiniGrid-Memory and MiniGridRecall,
    otherwise lasting actions.

    `blind` is the first walker's.
    """
    from minigrid.envs import MemoryEnv

    from lssvwm_envs.memory_maze.explorers import MazeExplorer, are_mazes
    from lssvwm_envs.minigrid.recall import MiniGridRecall

    if are_mazes(envs):
        return MazeExplorer(envs, seed)
    unwrapped: list[Any] = [env.unwrapped for env in getattr(envs, "envs", ())]
    if unwrapped and all(isinstance(env, MiniGridRecall) for env in unwrapped):
        return OutAndBack(unwrapped, seed)
    if unwrapped and all(isinstance(env, MemoryEnv) for env in unwrapped):
        return MemoryWalker(unwrapped, seed, blind)
    return LastingActions(envs.single_action_space, envs.num_envs, seed)


class LastingActions:
    """Random actions that last: a Discrete action is held a few steps, a Box action drifts. Goes further than noise."""

    HOLD = 0.6  # probability of keeping the action, and the drift's correlation

    def __init__(self, action_space: gym.Space, num_envs: int, seed: int):
        self.space, self.num_envs = action_space, num_envs
        self.rng = np.random.default_rng(seed)
        self.space.seed(seed)

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Actions (n[, A]); the state is what was done before."""
        fresh = np.stack([self.space.sample() for _ in range(self.num_envs)])
        if state is None:
            return fresh, fresh
        if isinstance(self.space, spaces.Box):
            actions = self.HOLD * state + (1 - self.HOLD**2) ** 0.5 * fresh
            actions = np.clip(actions, self.space.low, self.space.high).astype(fresh.dtype)
        else:
            keep = (self.rng.random(self.num_envs) < self.HOLD).reshape(-1, *[1] * (fresh.ndim - 1))
            actions = np.where(keep, state, fresh)
        return actions, actions


class OutAndBack:
    """Wanders off for some steps, turns round and walks back the same way, over and over: what was seen returns.

    A walk depends only on the policy's and the environment's seed.

    Args:
        envs: unwrapped MiniGrid environments.
        seed: of the walks.
        steps: fewest and most steps of a way out.
    """

    def __init__(self, envs: list[Any], seed: int, steps: tuple[int, int] = (8, 16)):
        self.envs, self.seed, self.steps = envs, seed, steps

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Actions (n,) int64; the state is what is left of every sub-environment's plan."""
        start = np.ones(len(self.envs), bool) if state is None or episode_start is None else episode_start
        plans: list[Any] = [None] * len(self.envs) if state is None else state
        plans = [self._plans(env) if new else plan for env, new, plan in zip(self.envs, start, plans, strict=True)]
        return np.array([next(plan) for plan in plans]), plans

    def _plans(self, env: Any) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, env.np_random_seed % 2**63])
        mirrored = {LEFT: RIGHT, RIGHT: LEFT, FORWARD: FORWARD}
        while True:
            way = []
            for _ in range(rng.integers(self.steps[0], self.steps[1] + 1)):
                x, y = env.front_pos
                free = 0 < x < env.width - 1 and 0 < y < env.height - 1
                way.append(FORWARD if free and rng.random() < 0.7 else int(rng.choice([LEFT, RIGHT])))
                yield way[-1]
            turn = int(rng.choice([LEFT, RIGHT]))
            yield from (turn, turn, *(mirrored[action] for action in reversed(way)))


@dataclass
class _Walk:
    """What is left to do in one episode."""

    rng: np.random.Generator
    goals: Iterator[Callable[[Pose], bool]]
    goal: Callable[[Pose], bool]
    target: tuple[int, int]
    random_rate: float


class MemoryWalker:
    """Walks MiniGrid-Memory so that there is something to remember, reading the simulator's state.

    It goes to where the object of the first room is in view, turns away and comes back to it 1 to 3 times, then walks
    to one of the two ends, the right one half of the time; a quarter of the walks first look at both ends. 60 / 20 /
    20 % of the walks take 0 / 10 / 50 % random steps. A walk depends only on the policy's and the environment's seed.

    Args:
        envs: unwrapped MiniGrid-Memory environments.
        seed: of the walks.
        blind: share of the walks that go to an end without looking at the object first. Without any, a model never
            learns that ignorance does not pay, and an agent trained in its dream does not look either.
    """

    def __init__(self, envs: list[Any], seed: int, blind: float = 0.2):
        self.envs, self.seed, self.blind = envs, seed, blind
        self.views: dict[tuple[int, int], frozenset[Pose]] = {}

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Actions (n,) int64; the state is every sub-environment's walk."""
        start = np.ones(len(self.envs), bool) if state is None or episode_start is None else episode_start
        previous: list[Any] = [None] * len(self.envs) if state is None else state
        walks = [self._begin(env) if new else walk for env, new, walk in zip(self.envs, start, previous, strict=True)]
        return np.array([_next_action(env, walk) for env, walk in zip(self.envs, walks, strict=True)]), walks

    def _begin(self, env: Any) -> _Walk:
        rng = np.random.default_rng([self.seed, env.np_random_seed % 2**63])
        sees = self._poses_that_see_the_object(env)
        x, y = env.success_pos[0], env.height // 2
        hidden = sorted(
            (i, j, d)
            for i in range(1, x + 1)
            for j in range(1, env.height - 1)
            for d in range(4)
            if env.grid.get(i, j) is None and (i, j) not in _ends(env) and (i, j, d) not in sees
        )
        hidden = [pose for pose in hidden if _path(env, (*_position(env), env.agent_dir), pose.__eq__) is not None]
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

    def _poses_that_see_the_object(self, env: Any) -> frozenset[Pose]:
        # Walls decide what is seen, and these follow from the size and the length of the corridor.
        key = (env.width, env.success_pos[0])
        if key not in self.views:
            before = env.agent_pos, env.agent_dir
            seen = set()
            for i in range(1, env.width - 1):
                for j in range(1, env.height - 1):
                    for direction in range(4):
                        env.agent_pos, env.agent_dir = np.array((i, j)), direction
                        if env.grid.get(i, j) is None and env.agent_sees(1, env.height // 2 - 1):
                            seen.add((i, j, direction))
            env.agent_pos, env.agent_dir = before
            self.views[key] = frozenset(seen)
        return self.views[key]


def _next_action(env: Any, walk: _Walk) -> int:
    pose = (*_position(env), int(env.agent_dir))
    while walk.goal(pose):
        following = next(walk.goals, None)
        if following is None:
            return LEFT  # the episode has ended; this step is not recorded
        walk.goal = following
    if walk.rng.random() < walk.random_rate:
        # Of all actions: what a model has never seen done, an agent in its dream will exploit.
        action = int(walk.rng.integers(env.action_space.n))
        if _moved(pose, action)[:2] not in _ends(env):
            return action
    path = _path(env, pose, walk.goal, walk.target)
    return path[0] if path else LEFT


def _path(
    env: Any, start: Pose, goal: Callable[[Pose], bool], target: tuple[int, int] | None = None
) -> list[int] | None:
    """Fewest actions from a pose to the goal, entering no end of the world but `target`; None if there is no way."""
    queue: deque[tuple[Pose, list[int]]] = deque([(start, [])])
    visited = {start}
    while queue:
        pose, actions = queue.popleft()
        if goal(pose):
            return actions
        for action in (FORWARD, LEFT, RIGHT):
            after = _moved(pose, action)
            end = after[:2] in _ends(env) and after[:2] != target
            if after in visited or end or env.grid.get(*after[:2]) is not None:
                continue
            visited.add(after)
            queue.append((after, [*actions, action]))
    return None


def _moved(pose: Pose, action: int) -> Pose:
    x, y, direction = pose
    if action == FORWARD:
        return x + DIRECTIONS[direction][0], y + DIRECTIONS[direction][1], direction
    return x, y, (direction + (1 if action == RIGHT else -1)) % 4


def _position(env: Any) -> tuple[int, int]:
    return int(env.agent_pos[0]), int(env.agent_pos[1])


def _ends(env: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    return tuple(env.success_pos), tuple(env.failure_pos)
