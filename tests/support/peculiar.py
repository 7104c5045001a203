"""Small environments with one peculiarity each, as people bring them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Goal
from minigrid.minigrid_env import MiniGridEnv

from lssvwm_rl.data.collect import collect
from lssvwm_rl.model.checkpoint_files import CONTEXTS
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.policy import RandomPolicy
from support.small_models import BACKBONE, awake

LENGTH = 5
DICT = spaces.Dict(
    {
        "frame": spaces.Box(0, 255, (16, 16, 3), np.uint8),
        "mission": spaces.Text(40),
        "speed": spaces.Box(-9, 9, (2,), np.float32),
    }
)


class Peculiar(gym.Env):
    """A frame of noise, episodes of five steps, and whatever is asked for.

    Args:
        actions: the action space.
        rewards: of a step, by its number; 0 elsewhere.
        poses: info["pose"] of a frame, by its number; nothing elsewhere. All frames have one if None.
        texts: whether the observation is a Dict with a sentence and two numbers.
        ends: whether episodes end.
        gives: what is made of the frame, whatever the space says.
    """

    def __init__(
        self, actions: spaces.Space | None = None, rewards: Any = None, poses: Any = None, texts: bool = False,
        ends: bool = True, gives: Any = None,
    ):  # fmt: skip
        self.action_space = spaces.Discrete(3) if actions is None else actions
        self.observation_space = DICT if texts else DICT["frame"]
        self.rewards, self.poses, self.texts, self.ends, self.gives = rewards or {}, poses, texts, ends, gives
        self.taken: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), self._info()

    def step(self, action: Any):
        assert self.action_space.contains(action), action
        self.taken.append(action)
        self.t += 1
        cut = self.ends and self.t >= LENGTH
        return self._observe(), self.rewards.get(self.t, 0.0), False, cut, self._info()

    def _observe(self) -> Any:
        frame = self.np_random.integers(0, 256, (16, 16, 3), np.uint8)
        frame = frame if self.gives is None else self.gives(frame)
        if not self.texts:
            return frame
        return {"frame": frame, "mission": "GoToTheBall", "speed": np.full(2, self.t, np.float32)}

    def _info(self) -> dict[str, Any]:
        if self.poses is None:
            return {"pose": np.full(2, self.t, np.float32)}
        return {"pose": np.asarray(self.poses[self.t], np.float32)} if self.t in self.poses else {}


class OwnMaze(MiniGridEnv):
    """Somebody's own MiniGrid, under whatever id."""

    def __init__(self, size: int = 6, **kwargs: Any):
        super().__init__(MissionSpace(lambda: "reach the goal"), grid_size=size, max_steps=9, **kwargs)

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        self.put_obj(Goal(), width - 2, height - 2)
        self.place_agent()
        self.mission = "reach the goal"


def peculiar(n: int, mode: AutoresetMode = AutoresetMode.DISABLED, **settings: Any) -> SyncVectorEnv:
    """So many of them."""
    return SyncVectorEnv([lambda: Peculiar(**settings)] * n, autoreset_mode=mode)


def peculiar_checkpoint(folder: Path, **settings: Any) -> str:
    """An untrained model of such an environment, with four of its episodes to start from."""
    torch.set_num_threads(1)
    store = collect(
        partial(peculiar, **settings),
        lambda envs, seed: RandomPolicy(envs.single_action_space, seed),
        folder / CONTEXTS,
        episodes=4,
    )
    config = WorldModelConfig(
        frame_shape=store.header.frame_shape, action_space=store.header.action_space, grid=(4, 4),
        backbone=replace(BACKBONE, blocks=(1, 4)), feature_size=12, head_width=32,
    )  # fmt: skip
    torch.manual_seed(0)
    model = WorldModel(config)
    awake(model, 0)
    model.save_pretrained(folder)
    return str(folder)
