"""MemoryMaze as a Gymnasium environment; the vector form is in `vector.py`."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from lssvwm_envs.memory_maze.appearance import OBJECT_COLORS
from lssvwm_envs.memory_maze.kinematics import ACTIONS
from lssvwm_envs.memory_maze.maze import MazeConfig, Mazes
from lssvwm_envs.memory_maze.top_down import beside_map

ROW = np.zeros(1, np.int64)
EXTRA = ("agent_pos", "agent_dir", "maze_layout", "targets_pos", "target_color")


class MemoryMazeEnv(gym.Env):
    """Find coloured objects in a maze, one after the other; the border of the image shows which one is next.

    The task of Memory Maze (Pasukonis et al. 2022): a reward of 1 on reaching the object, then another one is shown.
    Every episode has its own maze and stays in it, so an agent that remembers where it saw the others collects more.

    Observation: image (H, W, 3) uint8; with `extra_obs` a Dict of "image" and what is hidden: agent_pos, agent_dir,
    maze_layout, targets_pos, target_color. `info` has these at every step, see `Mazes.info`.
    Actions: 0 noop, 1 forward, 2 left, 3 right, 4 forward and left, 5 forward and right.
    Ends: truncated after `max_steps`, never terminated.

    Args:
        size, image_size, max_steps, objects: see `MazeConfig`.
        extra_obs: whether what is hidden is part of the observation.
        render_mode: "rgb_array" for the agent's view beside a map, or None.

    Raises:
        ValueError: for settings that do not fit, or an action that does not exist.
        gymnasium.error.ResetNeeded: for a step before the reset or after the end.
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
        self.mazes = Mazes(MazeConfig(size, image_size, max_steps, objects), 1)
        self.extra_obs, self.render_mode = extra_obs, check_render_mode(render_mode)
        self.observation_space = observation_space(self.mazes.config, extra_obs)
        self.action_space = spaces.Discrete(ACTIONS)
        self._running = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in a new maze."""
        super().reset(seed=seed)
        self.mazes.reset(ROW, draw_seeds([self.np_random]))
        self._running = True
        return self._now()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act once."""
        if not self._running:
            raise ResetNeeded("The episode has not begun or is over; call reset() first.")
        if not self.action_space.contains(action):
            raise ValueError(f"The action {action!r} does not exist; use a whole number from 0 to {ACTIONS - 1}.")
        reward = float(self.mazes.step(ROW, np.array([action], np.int64))[0])
        truncated = bool(self.mazes.truncated()[0])
        self._running = not truncated
        observation, info = self._now()
        return observation, reward, False, truncated, info

    def render(self) -> Any:
        """The agent's view beside a map, (256, 512, 3) uint8; None without a render mode."""
        if self.render_mode is None:
            gym.logger.warn("render() does nothing without a render mode; make the environment with 'rgb_array'.")
            return None
        return beside_map(self.mazes, 0)

    def surfaces(self) -> np.ndarray:
        """What every pixel shows, (H, W) int32, see `Mazes.surfaces`."""
        return self.mazes.surfaces()[0]

    def _now(self) -> tuple[Any, dict[str, Any]]:
        info = {name: value[0] for name, value in self.mazes.info().items()}
        info["target"] = int(info["target"])
        image = self.mazes.frames()[0]
        return {"image": image, **{name: info[name] for name in EXTRA}} if self.extra_obs else image, info


def observation_space(config: MazeConfig, extra_obs: bool) -> spaces.Space:
    """Of one environment."""
    n, K = config.size, config.targets
    image = spaces.Box(0, 255, (config.image_size, config.image_size, 3), np.uint8)
    if not extra_obs:
        return image
    return spaces.Dict(
        {
            "image": image,
            "agent_pos": spaces.Box(0, n, (2,), np.float32),
            "agent_dir": spaces.Box(-1, 1, (2,), np.float32),
            "maze_layout": spaces.Box(0, 1, (n, n), np.uint8),
            "targets_pos": spaces.Box(0, n, (K, 2), np.float32),
            "target_color": spaces.Box(0, 1, (OBJECT_COLORS.shape[1],), np.float32),
        }
    )


def draw_seeds(generators: list[np.random.Generator]) -> np.ndarray:
    """One seed (M,) uint64 for the next episode of each."""
    return np.array([g.integers(2**63) for g in generators], np.uint64)


def check_render_mode(render_mode: str | None) -> str | None:
    """The render mode.

    Raises:
        ValueError: if there is no such mode.
    """
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"There is no render mode {render_mode!r}; use 'rgb_array' or None.")
    return render_mode
