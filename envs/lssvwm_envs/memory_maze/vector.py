"""MemoryMaze as a Gymnasium vector environment: N mazes stepped and drawn by one compiled loop each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from lssvwm_envs.checks import check_render_mode
from lssvwm_envs.memory_maze.env import MemoryMazeEnv
from lssvwm_envs.memory_maze.kinematics import ACTIONS
from lssvwm_envs.memory_maze.maze import MazeConfig, Mazes
from lssvwm_envs.memory_maze.rows import MazeRows, observation_space
from lssvwm_envs.memory_maze.top_down import beside_map
from lssvwm_envs.rows import (
    advance,
    check_autoreset_mode,
    check_begun,
    check_mask_begun,
    check_ready,
    reset_mask,
    seed_rows,
    to_step_result,
)


class MemoryMazeVectorEnv(VectorEnv):
    """`MemoryMazeEnv`, `num_envs` times; after a reset with seed s, row i plays what a single one with seed s + i does.

    Args:
        num_envs: N.
        autoreset_mode: Gymnasium's, "NextStep", "SameStep" or "Disabled". If disabled, finished rows are begun anew by
            `reset(options={"reset_mask": mask})`, and must be before the next step.

    All other arguments and errors are `MemoryMazeEnv`'s; also

    Raises:
        ValueError: if num_envs is below 1, or seeds, a reset mask or actions have the wrong shape.
    """

    def __init__(
        self,
        num_envs: int = 1,
        size: int = 9,
        image_size: int = 64,
        max_steps: int | None = None,
        objects: int | None = None,
        extra_obs: bool = False,
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
    ):
        if num_envs < 1:
            raise ValueError(f"A vector environment needs at least one environment, not {num_envs}.")
        config = MazeConfig(size, image_size, max_steps, objects)
        self._rows = MazeRows(config, num_envs, extra_obs)
        self.num_envs, self.render_mode = num_envs, check_render_mode(render_mode)
        self.autoreset_mode = check_autoreset_mode(autoreset_mode)
        self.metadata = {**MemoryMazeEnv.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = observation_space(config, extra_obs)
        self.single_action_space = spaces.Discrete(ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    @property
    def mazes(self) -> Mazes:
        """All mazes, a row each."""
        return self._rows.mazes

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes in all mazes, or in those of `options["reset_mask"]` (N,) bool.

        Raises:
            gymnasium.error.ResetNeeded: if the others have had no episode yet.
        """
        check_mask_begun(self._rows, reset_mask(options, self.num_envs))
        info = self._rows.begin(seed_rows(self._rows, seed, options))
        return self._rows.observe(), info

    def step(self, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Act in all mazes; in those that have ended and are to be reset by this step, begin anew instead."""
        check_ready(self._rows, self.autoreset_mode)
        actions = np.asarray(actions)
        if not self.action_space.contains(actions):
            raise ValueError(f"Actions must be {self.num_envs} whole numbers from 0 to {ACTIONS - 1}, got {actions!r}.")
        return to_step_result(advance(self._rows, actions.astype(np.int64), self.autoreset_mode))

    def render(self) -> Any:
        """For each maze the agent's view beside a map, (256, 512, 3) uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        check_begun(self._rows, "render()")
        return tuple(beside_map(self.mazes, i) for i in range(self.num_envs))

    def surfaces(self) -> np.ndarray:
        """What every pixel shows, (N, H, W) int32, see `Mazes.surfaces`."""
        check_begun(self._rows, "surfaces()")
        return self.mazes.surfaces()
