"""MemoryMaze as a Gymnasium vector environment: N mazes stepped and drawn by one compiled loop each."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from lssvwm_envs.memory_maze.env import EXTRA, check_render_mode, draw_seeds, observation_space
from lssvwm_envs.memory_maze.kinematics import ACTIONS
from lssvwm_envs.memory_maze.maze import MazeConfig, Mazes
from lssvwm_envs.memory_maze.top_down import beside_map
from lssvwm_envs.rows import check_autoreset_mode, final_entries, reset_mask, row_seeds, with_masks


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
        self.num_envs, self.extra_obs = num_envs, extra_obs
        self.render_mode = check_render_mode(render_mode)
        self.autoreset_mode = check_autoreset_mode(autoreset_mode)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 8, "autoreset_mode": self.autoreset_mode}
        self.mazes = Mazes(MazeConfig(size, image_size, max_steps, objects), num_envs)
        self.single_observation_space = observation_space(self.mazes.config, extra_obs)
        self.single_action_space = spaces.Discrete(ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators = [seeding.np_random(None)[0] for _ in range(num_envs)]
        self.np_random_seeds: list[int | None] = [None] * num_envs
        self._begun = np.zeros(num_envs, bool)
        self._over = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes in all mazes, or in those of `options["reset_mask"]` (N,) bool."""
        mask, seeds = reset_mask(options, self.num_envs), row_seeds(seed, self.num_envs)
        for i in np.flatnonzero(mask).tolist():
            if seeds[i] is not None:
                self._generators[i], self.np_random_seeds[i] = seeding.np_random(seeds[i])
        self._begin(np.flatnonzero(mask))
        return self._now()

    def step(self, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Act in all mazes; in those that are over and are to be reset by this step, begin anew instead."""
        actions = np.asarray(actions)
        if not self._begun.all():
            raise ResetNeeded("Some episodes have not begun; call reset() first.")
        if not self.action_space.contains(actions):
            raise ValueError(f"Actions must be {self.num_envs} whole numbers from 0 to {ACTIONS - 1}, got {actions!r}.")
        if self.autoreset_mode == AutoresetMode.DISABLED and self._over.any():
            raise ResetNeeded(f"Episodes {np.flatnonzero(self._over)} are over; reset them with options['reset_mask'].")
        over = self._over.copy()
        rewards = self.mazes.step(np.flatnonzero(~over), actions.astype(np.int64))
        if over.any():
            self._begin(np.flatnonzero(over))
        truncated = self.mazes.truncated()
        self._over = truncated.copy()
        observation, info = self._now()
        if self.autoreset_mode == AutoresetMode.SAME_STEP and truncated.any():
            final = final_entries(observation, info, truncated)
            self._begin(np.flatnonzero(truncated))
            observation, info = self._now()
            info |= final
        return observation, rewards, np.zeros(self.num_envs, bool), truncated, info

    def render(self) -> Any:
        """For each maze the agent's view beside a map, (256, 512, 3) uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(beside_map(self.mazes, i) for i in range(self.num_envs))

    def surfaces(self) -> np.ndarray:
        """What every pixel shows, (N, H, W) int32, see `Mazes.surfaces`."""
        return self.mazes.surfaces()

    def _begin(self, rows: np.ndarray) -> None:
        self.mazes.reset(rows, draw_seeds([self._generators[i] for i in rows.tolist()]))
        self._begun[rows], self._over[rows] = True, False

    def _now(self) -> tuple[Any, dict[str, Any]]:
        hidden = self.mazes.info()
        info = with_masks(hidden, np.ones(self.num_envs, bool))
        frames = self.mazes.frames()
        return {"image": frames, **{name: hidden[name] for name in EXTRA}} if self.extra_obs else frames, info
