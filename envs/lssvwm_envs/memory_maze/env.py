"""MemoryMaze as a Gymnasium environment; the vector form is in `vector.py`."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from lssvwm_envs.checks import check_render_mode, is_action
from lssvwm_envs.memory_maze.kinematics import ACTIONS
from lssvwm_envs.memory_maze.maze import MazeConfig, Mazes
from lssvwm_envs.memory_maze.rows import MazeRows, observation_space
from lssvwm_envs.memory_maze.top_down import beside_map
from lssvwm_envs.rows import check_begun, check_ready_alone, row_info, row_of

ONLY_ROW = np.ones(1, bool)


class MemoryMazeEnv(gym.Env):
    """Find coloured objects in a maze, one after the other; the border of the image shows which one is next.

    The task of Memory Maze (Pasukonis et al. 2022): a reward of 1 on reaching the object, then another one is shown.
    Every episode has its own maze and stays in it, so an agent that remembers where it saw the others collects more.

    Observation: image (H, W, 3) uint8; with `extra_obs` a Dict of "image" and what is hidden: agent_pos, agent_dir,
    maze_layout, targets_pos, target_color. `info` has these at every step, see `Mazes.info`.
    Actions: 0 noop, 1 forward, 2 left, 3 right, 4 forward and left, 5 forward and right.
    Ends: truncated after `max_steps`, never terminated.

    Args:
        size: cells per side, odd.
        image_size: pixels per side.
        max_steps: until truncation; by default as published, see `MazeConfig`.
        objects: coloured spheres; by default as published, see `MazeConfig`.
        extra_obs: whether what is hidden is part of the observation.
        render_mode: "rgb_array" for the agent's view beside a map, or None.

    Raises:
        ValueError: for settings that do not fit, or an action that does not exist.
        gymnasium.error.ResetNeeded: for a step or a picture before the reset, or a step after the end.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}

    def __init__(
        self,
        size: int = 9,
        image_size: int = 64,
        max_steps: int | None = None,
        objects: int | None = None,
        extra_obs: bool = False,
        render_mode: str | None = None,
    ):
        config = MazeConfig(size, image_size, max_steps, objects)
        self._rows = MazeRows(config, 1, extra_obs)
        self.render_mode = check_render_mode(render_mode)
        self.observation_space = observation_space(config, extra_obs)
        self.action_space = spaces.Discrete(ACTIONS)

    @property
    def mazes(self) -> Mazes:
        """The maze, as one row."""
        return self._rows.mazes

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in a new maze."""
        super().reset(seed=seed)
        self._rows.generators[0] = self.np_random
        info = self._rows.begin(ONLY_ROW)
        return row_of(self._rows.observe(), 0), row_info(info, 0)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act once."""
        check_ready_alone(self._rows)
        if not is_action(action, self.action_space):
            raise ValueError(f"The action {action!r} does not exist; use a whole number from 0 to {ACTIONS - 1}.")
        step = self._rows.step(np.array([action], np.int64))
        observation, info = row_of(self._rows.observe(), 0), row_info(step.info, 0)
        return observation, float(step.reward[0]), bool(step.terminated[0]), bool(step.truncated[0]), info

    def render(self) -> Any:
        """The agent's view beside a map, (256, 512, 3) uint8; None without a render mode."""
        if self.render_mode is None:
            gym.logger.warn("render() does nothing without a render mode; make the environment with 'rgb_array'.")
            return None
        check_begun(self._rows, "render()")
        return beside_map(self.mazes, 0)

    def surfaces(self) -> np.ndarray:
        """What every pixel shows, (H, W) int32, see `Mazes.surfaces`."""
        check_begun(self._rows, "surfaces()")
        return self.mazes.surfaces()[0]
