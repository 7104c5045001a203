"""The explorer that suits the environments, whatever they are."""

from __future__ import annotations

from typing import Any

from gymnasium.vector import VectorEnv

from lssvwm_envs.explorers.lasting import LastingActions
from lssvwm_envs.explorers.registry import EXPLORERS, explorer
from lssvwm_rl.policy import Policy


@explorer("explore")
def make_explorer(envs: VectorEnv, seed: int, **settings: Any) -> Policy:
    """The first registered explorer that is made for these environments; lasting actions if there is none.

    `settings` are those of the explorer, for example `blind` of `MemoryWalker`.
    """
    for each in EXPLORERS.values():
        if each.suits is not None and each.suits(envs):
            return each.make(envs, seed, **settings)
    return LastingActions(envs, seed, **settings)
