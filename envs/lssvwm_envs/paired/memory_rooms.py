"""Twins of MiniGrid-Memory, whose first rooms hold different objects, and walks that stay away from these for long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from minigrid.core.world_object import Ball, Key

from lssvwm_envs.explorers.memory_view import LEFT, RIGHT, Pose, Sights, ends, first_object, next_poses, pose_of, way
from lssvwm_envs.make import image_envs, partial_view, single_envs
from lssvwm_envs.paired.twins import TwinConfig, in_order, replay
from lssvwm_rl.data.episode import Episode
from lssvwm_rl.data.play import play
from lssvwm_rl.policy import kept_by


class OtherFirstObject(gym.Wrapper):
    """A MiniGrid-Memory whose first room holds a key instead of a ball, or the reverse; so success is at the other end.

    All else is as without it: the same seed gives the same world, place and random numbers.
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, then exchange the object."""
        _, info = self.env.reset(seed=seed, options=options)
        world: Any = self.unwrapped
        cell = first_object(world)
        there = world.grid.get(*cell)
        world.grid.set(*cell, (Ball if isinstance(there, Key) else Key)(there.color))
        world.success_pos, world.failure_pos = world.failure_pos, world.success_pos
        return world.gen_obs(), info


class LongAbsence:
    """Looks at the object of the first room, keeps out of its sight for long, looks again, keeps away for as long once
    more, and goes to one of the two ends without seeing it.

    Args:
        envs: a SyncVectorEnv of MiniGrid-Memory environments.
        seed: of the walks; a walk depends on it and on the environment's seed.
        away: steps of an absence, at least.
    """

    def __init__(self, envs: VectorEnv, seed: int, away: int) -> None:
        self.envs, self.seed, self.away, self.sights = single_envs(envs), seed, away, Sights()

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Actions (n,) int64; the state is what is left of every sub-environment's walk."""
        walks = kept_by(self.envs, state, episode_start, self._walk)
        return np.array([next(walk) for walk in walks], np.int64), walks

    def _walk(self, env: Any) -> Iterator[int]:
        rng, sees = np.random.default_rng([self.seed, env.np_random_seed % 2**63]), self.sights.of(env)
        end = ends(env)[int(rng.integers(2))]

        def at_end(pose: Pose) -> bool:
            return pose[:2] == end

        @cache
        def hidden(pose: Pose) -> bool:
            """Where the object is not in view, nor has to be on the way to the end."""
            return pose not in sees and pose[:2] not in ends(env) and bool(way(env, pose, at_end, end, sees))

        for _ in range(2):
            yield from _go(env, sees.__contains__)
            yield from _go(env, hidden)
            for _ in range(self.away):
                free = [action for action, after in next_poses(env, pose_of(env)) if hidden(after)]
                yield int(rng.choice(free or [LEFT, RIGHT]))
        yield from _go(env, at_end, end, sees)
        while True:
            yield LEFT  # the episode has ended; this step is not recorded


def play_room_twins(
    env_id: str, env_kwargs: Mapping[str, Any], seeds: Sequence[int], config: TwinConfig
) -> tuple[list[Episode], list[Episode]]:
    """Episodes of MiniGrid-Memory of these seeds, in their order, and those of their twins by the same actions."""
    envs = image_envs(env_id, **env_kwargs)(len(seeds))
    twins = SyncVectorEnv(
        [lambda: partial_view(OtherFirstObject(gym.make(env_id, **env_kwargs)))] * len(seeds),
        autoreset_mode=AutoresetMode.DISABLED,
    )
    try:
        queues = [iter([seed]) for seed in seeds]
        walked = in_order(envs, play(envs, LongAbsence(envs, config.seed, config.away), queues), config.vector_keys)
        queues = [iter([seed]) for seed in seeds]
        return walked, in_order(twins, play(twins, replay(walked), queues), config.vector_keys)
    finally:
        envs.close()
        twins.close()


def _go(
    env: Any,
    goal: Callable[[Pose], bool],
    target: tuple[int, int] | None = None,
    avoid: frozenset[Pose] = frozenset(),
) -> Iterator[int]:
    """Actions that lead to a goal as `way` does."""
    while not goal(pose_of(env)):
        actions = way(env, pose_of(env), goal, target, avoid)
        yield actions[0] if actions else LEFT
