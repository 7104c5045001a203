"""Reacher as a Gymnasium environment; the vector form is in `vector.py`."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from lssvwm_envs.checks import check_actions, check_render_mode
from lssvwm_envs.reacher.arms import draw_arms
from lssvwm_envs.reacher.rows import ReacherConfig, ReacherRows
from lssvwm_envs.rows import check_ready_alone, row_info

ONLY_ROW = np.ones(1, bool)
SHOWN = 256  # pixels per side of what `render` gives


class ReacherEnv(gym.Env):
    """Bring the tip of an arm with two joints to a target.

    After the task of the same name (Tassa et al. 2018, arXiv 1801.00690), but joints have no inertia, so that a frame
    shows all there is to know. Arm and target are placed at random in every episode.

    Observation: image (H, W, 3) uint8, the upper link blue, the lower one yellow, the target red. `info` has what is
    drawn, see `ReacherRows.info`.
    Actions: Box(-1, 1, (2,)) float32, the speeds of shoulder and elbow; at full speed 0.25 radians per step.
    Reward: minus the distance of tip and target after the step, in units of the stretched arm, so from -2 to 0.
    Ends: truncated after `max_steps`, never terminated.

    Args:
        image_size: pixels per side.
        max_steps: until truncation.
        render_mode: "rgb_array" for a larger picture of the same, or None.

    Raises:
        ValueError: for settings that do not fit.
        gymnasium.error.InvalidAction: for an action that is not in the Box.
        gymnasium.error.ResetNeeded: for a step before the reset or after the end.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, image_size: int = 32, max_steps: int = 50, render_mode: str | None = None):
        config = ReacherConfig(image_size, max_steps)
        self._rows, self.render_mode = ReacherRows(config, 1), check_render_mode(render_mode)
        self.observation_space, self.action_space = config.observation_space, config.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with another arm and target."""
        super().reset(seed=seed)
        self._rows.generators[0] = self.np_random
        info = self._rows.begin(ONLY_ROW)
        return self._rows.observe()[0], row_info(info, 0)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Turn both joints once."""
        check_ready_alone(self._rows)
        step = self._rows.step(check_actions(action, self.action_space)[None])
        observation, info = self._rows.observe()[0], row_info(step.info, 0)
        return observation, float(step.reward[0]), bool(step.terminated[0]), bool(step.truncated[0]), info

    def render(self) -> Any:
        """(256, 256, 3) uint8; None without a render mode."""
        if self.render_mode is None:
            gym.logger.warn("render() does nothing without a render mode; make the environment with 'rgb_array'.")
            return None
        return draw_arms(self._rows.angles, self._rows.targets, SHOWN)[0]
