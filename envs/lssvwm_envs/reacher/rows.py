"""Arms as the rows of environments: seeds, ends, rewards and observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding

from lssvwm_envs.reacher.arms import distances, draw_arms, draw_worlds, places, turned
from lssvwm_envs.rows import with_masks

MIN_IMAGE = 16  # pixels in which an arm can be told from a target


@dataclass(frozen=True)
class ReacherConfig:
    """The task's settings.

    Attributes:
        image_size: pixels per side.
        max_steps: until truncation.

    Raises:
        ValueError: if one does not fit.
    """

    image_size: int = 32
    max_steps: int = 50

    def __post_init__(self) -> None:
        whole = (int, np.integer)
        if not isinstance(self.image_size, whole) or self.image_size < MIN_IMAGE:
            raise ValueError(f"Images of {self.image_size!r} pixels cannot be drawn; use at least {MIN_IMAGE}.")
        if not isinstance(self.max_steps, whole) or self.max_steps < 1:
            raise ValueError(f"max_steps must be a whole number of at least 1, got {self.max_steps!r}.")

    @property
    def observation_space(self) -> spaces.Box:
        """Of one environment."""
        return spaces.Box(0, 255, (self.image_size, self.image_size, 3), np.uint8)

    @property
    def action_space(self) -> spaces.Box:
        """Of one environment: the speeds of both joints."""
        return spaces.Box(-1, 1, (2,), np.float32)


class ReacherStep(NamedTuple):
    """One step of N arms; those that had ended before did not take it."""

    reward: np.ndarray  # (N,) float64, minus the distance; 0 for those
    terminated: np.ndarray  # (N,) bool, never
    truncated: np.ndarray  # (N,) bool
    info: dict[str, np.ndarray]  # see `ReacherRows.info`


class ReacherRows:
    """N arms that are begun anew from their own generators, see `rows.Rows`.

    Attributes:
        angles: (N, 2) float64 of the joints, see `arms.places`.
        targets: (N, 2) float64.
        steps: (N,) int64 since the reset.
        ended, empty, generators: see `rows.Rows`.
    """

    def __init__(self, config: ReacherConfig, count: int):
        self.config = config
        self.angles, self.targets, self.steps = np.zeros((count, 2)), np.zeros((count, 2)), np.zeros(count, np.int64)
        self.ended, self.empty = np.zeros(count, bool), np.ones(count, bool)
        self.generators = [seeding.np_random(None)[0] for _ in range(count)]

    def begin(self, mask: np.ndarray) -> dict[str, Any]:
        """Begin episodes in the rows of a mask (N,) bool; info with masks, which is of all rows."""
        angles, targets = self.angles.copy(), self.targets.copy()
        angles[mask], targets[mask] = draw_worlds([self.generators[i] for i in np.flatnonzero(mask).tolist()])
        self.angles, self.targets, self.steps = angles, targets, np.where(mask, 0, self.steps)
        self.ended, self.empty = self.ended & ~mask, self.empty & ~mask
        return with_masks(self.info(), np.ones(len(mask), bool))

    def step(self, actions: np.ndarray) -> ReacherStep:
        """Turn the joints of the arms that have not ended, by actions (N, 2) in [-1, 1]."""
        moving = ~self.ended
        self.angles = np.where(moving[:, None], turned(self.angles, actions), self.angles)
        self.steps = self.steps + moving
        truncated = moving & (self.steps >= self.config.max_steps)
        self.ended = self.ended | truncated
        reward = np.where(moving, -distances(self.angles, self.targets), 0.0)
        return ReacherStep(reward, np.zeros(len(reward), bool), truncated, self.info())

    def observe(self) -> np.ndarray:
        """(N, H, W, 3) uint8, new."""
        return draw_arms(self.angles, self.targets, self.config.image_size)

    def info(self) -> dict[str, np.ndarray]:
        """What is drawn, float32: "angles", "tip" and "target" (N, 2) each."""
        parts = {"angles": self.angles, "tip": places(self.angles)[1], "target": self.targets}
        return {name: part.astype(np.float32) for name, part in parts.items()}
