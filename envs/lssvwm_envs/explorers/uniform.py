"""Uniformly random actions."""

from __future__ import annotations

from gymnasium.vector import VectorEnv

from lssvwm_envs.explorers.registry import explorer
from lssvwm_rl.policy import RandomPolicy


@explorer("random")
def random_actions(envs: VectorEnv, seed: int) -> RandomPolicy:
    """Every action as probable as every other, at every step anew."""
    return RandomPolicy(envs.single_action_space, seed)
