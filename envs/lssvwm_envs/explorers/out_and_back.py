"""Ways there and back in the recall room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from lssvwm_envs.explorers.registry import explorer, made_of
from lssvwm_envs.make import single_envs
from lssvwm_envs.minigrid.recall import MiniGridRecall
from lssvwm_rl.policy import kept_by

LEFT, RIGHT, FORWARD = 0, 1, 2
are_recall_rooms = made_of(MiniGridRecall)


@explorer("out-and-back", suits=are_recall_rooms)
class OutAndBack:
    """Wanders off for some steps, turns round and walks back the same way, over and over: what was seen returns.

    A walk depends only on the policy's and the environment's seed.

    Args:
        envs: a SyncVectorEnv of MiniGrid rooms without inner walls.
        seed: of the walks.
        steps: fewest and most steps of a way out.
    """

    by_world = True
    """See `MazeExplorer.by_world`."""

    def __init__(self, envs: VectorEnv, seed: int, steps: tuple[int, int] = (8, 16)) -> None:
        self.envs, self.seed, self.steps = single_envs(envs), seed, steps

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Actions (n,) int64; the state is what is left of every sub-environment's plan."""
        plans = kept_by(self.envs, state, episode_start, self._plans)
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
