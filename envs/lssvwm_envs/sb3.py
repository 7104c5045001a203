"""Gymnasium vector environments as Stable-Baselines3 VecEnvs; DreamVecEnv is that of the dream."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import DictInfoToList
from stable_baselines3.common.vec_env import VecEnv

from lssvwm_envs.dream.vector import DreamVectorEnv
from lssvwm_envs.rows import autoreset_mode_of


class GymVecEnv(VecEnv):
    """A Gymnasium vector environment for Stable-Baselines3, which knows only lists of single environments itself.

    Args:
        envs: with same-step autoreset, which is what Stable-Baselines3 expects; kept as `self.envs`.
        seed: of row 0; row i has seed + i.

    Raises:
        ValueError: for another autoreset mode.
    """

    def __init__(self, envs: VectorEnv, seed: int | None = None):
        mode = autoreset_mode_of(envs)
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"Stable-Baselines3 needs same-step autoreset, not {mode}; make the environment with that."
            )
        self.envs = envs
        self._listed: Any = DictInfoToList(envs)
        self._actions: Any = None
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
        self.seed(seed)

    def reset(self) -> Any:
        """Begin every row anew, with the options that `set_options` was given."""
        seeds = None if self._seeds[0] is None else self._seeds
        observation, self.reset_infos = self._listed.reset(seed=seeds, options=self._options[0] or None)
        self._reset_seeds()
        self._reset_options()
        return observation

    def set_options(self, options: list[dict] | dict | None = None) -> None:
        """Options of the next reset, the same for all rows.

        Raises:
            ValueError: for a list, since rows of a vector environment share their options.
        """
        if isinstance(options, list):
            raise ValueError("Rows of a vector environment share their options; give set_options one dict.")
        super().set_options(options)

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions of the next `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step every row; rows that end begin anew, with their last observation in `infos`."""
        observation, rewards, terminated, truncated, infos = self._listed.step(self._actions)
        done = terminated | truncated
        for i in np.flatnonzero(done):
            self.reset_infos[i] = {key: value for key, value in infos[i].items() if not key.startswith("final_")}
            infos[i] = {**infos[i].get("final_info", {}), "terminal_observation": infos[i]["final_obs"]}
        for info, cut in zip(infos, truncated & ~terminated, strict=True):
            info["TimeLimit.truncated"] = bool(cut)
        return observation, np.asarray(rewards, np.float32), done, infos

    def close(self) -> None:
        """Close the environment."""
        self.envs.close()

    def get_images(self) -> list[np.ndarray]:
        """What `envs.render` shows of every row."""
        return list(self.envs.render() or ())

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The vector environment's attribute, the same for every row."""
        return [getattr(self.envs, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Rows have no attributes of their own."""
        raise AttributeError(f"Rows have no attribute {attr_name!r} of their own; use `.envs`, the vector environment.")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Rows are no objects and have no methods."""
        raise AttributeError(f"Rows have no method {method_name!r} of their own; use `.envs`, the vector environment.")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """No row is wrapped."""
        return [False for _ in self._get_indices(indices)]


class DreamVecEnv(GymVecEnv):
    """`DreamVectorEnv` for Stable-Baselines3.

    Args:
        checkpoint, num_envs: as in `DreamVectorEnv`, which also takes `settings`.
        seed: of row 0; row i has seed + i and dreams what `DreamEnv` with that seed does.

    Raises:
        FileNotFoundError, ValueError: as `DreamVectorEnv`.
    """

    def __init__(self, checkpoint: str, num_envs: int, seed: int | None = None, **settings: Any):
        super().__init__(DreamVectorEnv(checkpoint, num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **settings), seed)
