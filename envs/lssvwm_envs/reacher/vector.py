"""Reacher as a Gymnasium vector environment: N arms turned and drawn together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from lssvwm_envs.checks import check_actions, check_render_mode
from lssvwm_envs.reacher.arms import draw_arms
from lssvwm_envs.reacher.env import SHOWN, ReacherEnv
from lssvwm_envs.reacher.rows import ReacherConfig, ReacherRows
from lssvwm_envs.rows import advance, check_autoreset_mode, check_ready, seed_rows, to_step_result


class ReacherVectorEnv(VectorEnv):
    """`ReacherEnv`, `num_envs` times; after a reset with seed s, row i plays what a single one with seed s + i does.

    Args:
        num_envs: N.
        autoreset_mode: Gymnasium's, "NextStep", "SameStep" or "Disabled". If disabled, finished rows are begun anew by
            `reset(options={"reset_mask": mask})`, and must be before the next step.

    All other arguments and errors are `ReacherEnv`'s; also

    Raises:
        ValueError: if num_envs is below 1, or seeds or a reset mask have the wrong shape.
    """

    def __init__(
        self,
        num_envs: int = 1,
        image_size: int = 32,
        max_steps: int = 50,
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
    ):
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}.")
        config = ReacherConfig(image_size, max_steps)
        self._rows = ReacherRows(config, num_envs)
        self.num_envs, self.render_mode = num_envs, check_render_mode(render_mode)
        self.autoreset_mode = check_autoreset_mode(autoreset_mode)
        self.metadata = {**ReacherEnv.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = config.observation_space, config.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin episodes with all arms, or with those of `options["reset_mask"]` (N,) bool."""
        info = self._rows.begin(seed_rows(self._rows, seed, options))
        return self._rows.observe(), info

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Turn the joints of all arms; those that have ended and are to be reset by this step begin anew instead."""
        check_ready(self._rows, self.autoreset_mode)
        return to_step_result(advance(self._rows, check_actions(actions, self.action_space), self.autoreset_mode))

    def render(self) -> Any:
        """For each arm a picture (256, 256, 3) uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(draw_arms(self._rows.angles, self._rows.targets, SHOWN))
