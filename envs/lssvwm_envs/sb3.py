"""Gymnasium vector environments as Stable-Baselines3 VecEnvs; DreamVecEnv is that of the dream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import DictInfoToList
from stable_baselines3.common.vec_env import VecEnv

from lssvwm_envs.dream.vector import DreamVectorEnv
from lssvwm_envs.rows import autoreset_mode_of
from lssvwm_rl.spaces import first_action, sb3_space


class GymVecEnv(VecEnv):
    """A Gymnasium vector environment for Stable-Baselines3, which knows only lists of single environments itself.

    Stable-Baselines3 chooses among actions that count from 0: where those of the environment do not, its
    `action_space` here does, and actions are shifted on their way in.

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
        self._first = first_action(envs.single_action_space)
        super().__init__(envs.num_envs, envs.single_observation_space, sb3_space(envs.single_action_space))
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
        self._actions = actions + self._first if np.any(self._first) else actions

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


class JoinedVecEnv(VecEnv):
    """The rows of several VecEnvs side by side, for example dreams and real environments.

    Args:
        parts: at least one, with the same spaces; kept as `self.parts`.

    Raises:
        ValueError: if there are none, or their spaces differ.
    """

    def __init__(self, parts: Sequence[VecEnv]):
        if not parts:
            raise ValueError("There are no environments to join; give at least one.")
        self.parts = list(parts)
        spaces = [(part.observation_space, part.action_space) for part in parts]
        if any(space != spaces[0] for space in spaces[1:]):
            raise ValueError(f"Environments with the spaces {spaces} cannot be joined; give those with the same ones.")
        self._ends = np.cumsum([part.num_envs for part in parts])
        super().__init__(int(self._ends[-1]), *spaces[0])

    def reset(self) -> Any:
        """Begin every row anew."""
        observations = [part.reset() for part in self.parts]
        self.reset_infos = [info for part in self.parts for info in part.reset_infos]
        return _side_by_side(observations)

    def step_async(self, actions: np.ndarray) -> None:
        """Hand every part the actions of its rows."""
        for part, chosen in zip(self.parts, np.split(actions, self._ends[:-1]), strict=True):
            part.step_async(chosen)

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step every row."""
        observations, rewards, dones, infos = zip(*(part.step_wait() for part in self.parts), strict=True)
        self.reset_infos = [info for part in self.parts for info in part.reset_infos]
        every = [info for part in infos for info in part]
        return _side_by_side(observations), np.concatenate(rewards), np.concatenate(dones), every

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed row i with seed + i at the next reset."""
        starts = [0, *self._ends[:-1].tolist()]
        seeds = [
            part.seed(None if seed is None else seed + start) for part, start in zip(self.parts, starts, strict=True)
        ]
        return [each for part in seeds for each in part]

    def close(self) -> None:
        """Close all parts."""
        for part in self.parts:
            part.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """What every row shows."""
        return [image for part in self.parts for image in part.get_images()]

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Of every row, what its part says."""
        return self._gather(indices, lambda part, rows: part.get_attr(attr_name, rows))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """As the parts do."""
        self._gather(indices, lambda part, rows: [part.set_attr(attr_name, value, rows)] * len(rows))

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """As the parts do."""
        return self._gather(
            indices, lambda part, rows: part.env_method(method_name, *method_args, indices=rows, **method_kwargs)
        )

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """As the parts say."""
        return self._gather(indices, lambda part, rows: part.env_is_wrapped(wrapper_class, rows))

    def _gather(self, indices: Any, ask: Callable[[VecEnv, list[int]], list[Any]]) -> list[Any]:
        """What the parts answer for rows, in the order of the rows that were asked for."""
        found: dict[int, Any] = {}
        wanted = [int(row) for row in self._get_indices(indices)]
        for part, end in zip(self.parts, self._ends.tolist(), strict=True):
            start = end - part.num_envs
            rows = [row for row in wanted if start <= row < end]
            if rows:
                found |= dict(zip(rows, ask(part, [row - start for row in rows]), strict=True))
        return [found[row] for row in wanted]


def _side_by_side(observations: Sequence[Any]) -> Any:
    if isinstance(observations[0], dict):
        return {key: np.concatenate([each[key] for each in observations]) for key in observations[0]}
    return np.concatenate(observations)


class DreamVecEnv(GymVecEnv):
    """`DreamVectorEnv` for Stable-Baselines3.

    Args:
        checkpoint: run folder, packaged name or hub id.
        num_envs: rows.
        seed: of row 0; row i has seed + i and dreams what `DreamEnv` with that seed does.

    Raises:
        FileNotFoundError, ValueError: as `DreamVectorEnv`.
    """

    def __init__(self, checkpoint: str, num_envs: int, seed: int | None = None, **settings: Any):
        super().__init__(DreamVectorEnv(checkpoint, num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **settings), seed)
