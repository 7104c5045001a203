"""Planners by name, with settings that suit tests."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces

from lssvwm_agents.planning import PLANNERS

BOX = spaces.Box(-1, 1, (4,))


def generators(n: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + i) for i in range(n)]


def make(name: str, space: gym.Space, **settings: Any) -> Any:
    config, planner = PLANNERS[name]
    return planner(config(**settings), space)


def small(name: str) -> dict[str, int]:
    """Settings with which a search is short."""
    return {"horizon": 4, "samples": 64} | ({"elites": 8} if name in ("cem", "icem") else {})
