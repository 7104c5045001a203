"""Evaluation beside a world model, and what it refuses."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from lssvwm_agents.evaluate import evaluate_policy
from lssvwm_envs.make import make_image_env
from lssvwm_envs.wrappers import MemoryObservation, VectorMemoryObservation
from lssvwm_rl.data.splits import split_seed

ENV_ID, SEED = "MiniGrid-MemoryS7-v0", 5


def make():
    return make_image_env(ENV_ID, max_steps=12)


class Notes:
    """Acts by the steps of its row's episode, and notes what every episode's rows showed."""

    def __init__(self):
        self.episodes: dict[int, list[np.ndarray]] = {}

    def predict(self, observation: Any, state: Any = None, episode_start=None, deterministic: bool = False):
        rows = len(observation)
        steps, episodes = (np.zeros(rows, int), np.arange(rows) - rows) if state is None else state
        steps, episodes = np.where(episode_start, 0, steps), np.where(episode_start, episodes + rows, episodes)
        for i in range(rows):
            self.episodes.setdefault(int(episodes[i]), []).append(observation[i].copy())
        return np.where(steps % 3 == 2, 1, 2), (steps + 1, episodes)


@pytest.mark.parametrize("num_envs", [1, 2])
def test_the_memory_of_every_episode_is_its_own(checkpoint, num_envs):
    notes, finished = Notes(), []
    result = evaluate_policy(
        notes, make, 3, num_envs, SEED, wrap_vector=partial(VectorMemoryObservation, checkpoint=checkpoint),
        progress=lambda done, total: finished.append((done, total)),
    )  # fmt: skip
    assert finished[-1] == (3, 3) and (result.lengths > 1).all()
    env = MemoryObservation(make(), checkpoint)
    for j in range(3):
        observation, _ = env.reset(seed=split_seed("test", SEED + j))
        assert len(notes.episodes[j]) == result.lengths[j]
        for steps, seen in enumerate(notes.episodes[j]):
            np.testing.assert_allclose(seen, observation, atol=1e-4)
            observation, *_ = env.step(1 if steps % 3 == 2 else 2)


def test_actions_that_do_not_exist_are_named():
    class Wrong:
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return np.full(len(observation), 7), state

    with pytest.raises(ValueError, match=r"which are not in Discrete\(7\)"):
        evaluate_policy(Wrong(), make, 1)
    with pytest.raises(ValueError, match="Need at least one episode"):
        evaluate_policy(Wrong(), make, 0)
