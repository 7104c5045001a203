"""What every kind of twins has in common: how long walks stay away, and how they are played."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from gymnasium.vector import VectorEnv

from lssvwm_rl.data.collect import recorded
from lssvwm_rl.data.episode import Episode
from lssvwm_rl.data.play import Start, Step
from lssvwm_rl.policy import GivenActions


@dataclass(frozen=True)
class TwinConfig:
    """What is played.

    Attributes:
        window: frames just before a compared one in which histories have to agree.
        away: steps at least for which a walk stays away from what it saw.
        steps: of a walk where no task ends it (mazes).
        seed: of the walks.
        vector_keys: keys of the observation or of `info` that make the episodes' vectors.

    Raises:
        ValueError: for numbers out of range.
    """

    window: int = 12
    away: int = 13
    steps: int = 128
    seed: int = 0
    vector_keys: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        numbers = (self.window, self.away, self.steps)
        if min(numbers) < 1:
            raise ValueError(f"Window, away and steps must be at least 1, not {', '.join(map(str, numbers))}.")


def in_order(envs: VectorEnv, events: Iterable[Start | Step], vector_keys: Sequence[str]) -> list[Episode]:
    """The episodes that `play` gives if every row has one, sorted by their seeds."""
    return sorted(recorded(envs, events, vector_keys), key=lambda episode: episode.seed or 0)


def replay(episodes: Sequence[Episode]) -> GivenActions:
    """The policy that acts in N environments as N episodes did."""
    actions = np.zeros((max(map(len, episodes)), len(episodes), *episodes[0].actions.shape[1:]), np.int64)
    for i, episode in enumerate(episodes):
        actions[: len(episode), i] = episode.actions
    return GivenActions(actions)
