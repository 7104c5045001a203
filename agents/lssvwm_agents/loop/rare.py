"""RareActions: a policy that now and then does what the data has seldom seen done where it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from lssvwm_agents.remembering import Remembered
from lssvwm_rl.data.visits import Visits
from lssvwm_rl.policy import Policy
from lssvwm_rl.spaces import image_key, image_of

TRIED = 8  # Box actions that are drawn to find a rare one


class RareActions:
    """Plays by another policy, and where some action was seldom taken in such a view, takes it with some probability.

    What it does counts at once, so that its own episodes do not all go to one place.

    Args:
        policy: who plays otherwise.
        visits: of the data so far; changed.
        envs: what is played.
        seed: of its draws.
        rate: probability of a rare action where there is one.
        enough: visits from which on an action is not rare.
    """

    def __init__(
        self, policy: Policy, visits: Visits, envs: VectorEnv, seed: int, rate: float = 0.5, enough: int = 20
    ) -> None:
        self.policy, self.visits, self.rate, self.enough = policy, visits, rate, enough
        self.rng, self.image = np.random.default_rng(seed), image_key(envs.single_observation_space)
        self.space = envs.single_action_space
        self.space.seed(seed)

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Actions (n[, A]); the state is the other policy's.

        A policy that remembers its last actions (`Remembered`) is told what was really done.
        """
        actions, state = self.policy.predict(observation, state, episode_start, deterministic)
        frames, actions = image_of(observation, self.image), np.array(actions)
        views = self.visits.views(frames)
        for i in np.flatnonzero(self.rng.random(len(views)) < self.rate).tolist():
            choices = self._choices()
            counts = self.visits.count(np.repeat(views[i], len(choices)), choices)
            if counts.min() < self.enough:
                rare = np.flatnonzero(counts == counts.min())
                actions[i] = choices[rare[self.rng.integers(len(rare))]]
        self.visits.add(frames, actions)
        return actions, _did(state, actions)

    def _choices(self) -> np.ndarray:
        """Actions (m[, A]) to choose from: all of a Discrete space, some of another one."""
        if isinstance(self.space, spaces.Discrete):
            return int(self.space.start) + np.arange(int(self.space.n))
        return np.stack([self.space.sample() for _ in range(TRIED)])


def _did(state: Any, actions: np.ndarray) -> Any:
    return replace(state, actions=actions) if isinstance(state, Remembered) else state


def visits_for(space: spaces.Space) -> Visits:
    """Counts that suit an action space."""
    return Visits(space.low, space.high) if isinstance(space, spaces.Box) else Visits()
