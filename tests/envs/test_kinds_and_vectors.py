"""Every kind of model is an environment; Dict observations are collected, learned and dreamt with their vector."""

from __future__ import annotations

import dataclasses
import shutil
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.state import DreamState
from lssvwm_rl.data.collect import collect
from lssvwm_rl.model.backbone import match_depth
from lssvwm_rl.model.checkpoint_files import CONTEXTS
from lssvwm_rl.model.config import KINDS, WorldModelConfig
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.policy import RandomPolicy
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.trainer import train
from support.small_models import BACKBONE, awake

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], np.uint8)


class Compass(gym.Env):
    """Turns left and right; the frame is the colour of the direction, and the direction is told as well."""

    observation_space = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (16, 16, 3), np.uint8),
            "direction": spaces.Box(0, 1, (4,), np.float32),
        }
    )
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.direction, self.steps = int(self.np_random.integers(4)), 0
        return self._observe(), {}

    def step(self, action):
        self.direction = (self.direction + (0, 1, -1)[int(action)]) % 4
        self.steps += 1
        return self._observe(), float(self.direction == 0), False, self.steps >= 12, {}

    def _observe(self):
        frame = np.broadcast_to(COLOURS[self.direction], (16, 16, 3)).copy()
        return {"image": frame, "direction": np.eye(4, dtype=np.float32)[self.direction]}


@pytest.fixture(scope="module")
def compass_run(tmp_path_factory) -> str:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("compass")
    store = collect(
        lambda n: SyncVectorEnv([Compass] * n, autoreset_mode=AutoresetMode.DISABLED),
        lambda envs, seed: RandomPolicy(envs.single_action_space, seed),
        folder / "data",
        episodes=60,
        vector_keys=("direction",),
    )
    assert store.header.vector_keys == {"direction": 4}
    model = WorldModelConfig(frame_shape=store.header.frame_shape, action_space=store.header.action_space,
        vector_size=store.header.vector_size, grid=(2, 2),
        backbone=dataclasses.replace(BACKBONE, blocks=(1, 2)), feature_size=16, head_width=32,
    )  # fmt: skip
    config = TrainConfig(
        batch_size=16, span=13, steps=250, learning_rate=3e-3, warmup=20, preview_every=0, device="cpu"
    )
    return str(train(store, folder / "run", model, config=config))


def test_a_dream_of_a_dict_observation_tells_its_vector(compass_run):
    env = DreamEnv(compass_run, context_length=2)
    right = []
    for seed in range(4):
        episode = env.contexts[env.reset(seed=seed)[1]["context_episode"]]
        direction = int(np.argmax(episode.vectors[1]))
        for action in env.np_random.integers(0, 3, 8):
            frame, _, _, _, info = env.step(action)
            direction = (direction + (0, 1, -1)[action]) % 4
            nearest = np.abs(COLOURS.astype(int) - frame.mean(axis=(0, 1))).sum(axis=1).argmin()
            right.append((int(np.argmax(info["vector"])) == direction, nearest == direction))
    told, shown = np.mean(right, axis=0)
    assert told > 0.9 and shown > 0.9, (told, shown)


def test_a_state_restores_the_vector_as_well(compass_run):
    env = DreamEnv(compass_run)
    env.reset(seed=1)
    state = env.get_state()
    once = [env.step(1)[4]["vector"] for _ in range(3)]
    env.set_state(state)
    assert np.array_equal(once, [env.step(1)[4]["vector"] for _ in range(3)])
    assert not np.array_equal(once[0], once[1])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_an_environment(checkpoint, tmp_path, kind):
    config = WorldModel.from_pretrained(checkpoint).config
    torch.manual_seed(0)
    model = WorldModel(dataclasses.replace(config, backbone=match_depth(config.backbone, kind, config.grid)))
    awake(model)
    model.save_pretrained(tmp_path)
    shutil.copytree(f"{checkpoint}/{CONTEXTS}", tmp_path / CONTEXTS)
    env = gym.make("lssvwm/Dream-v0", checkpoint=str(tmp_path), context_length=3, denoise_steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    state = env.unwrapped.get_state()
    state.save(tmp_path / "state")
    steps = []
    for _ in range(2):
        env.unwrapped.set_state(DreamState.load(tmp_path / "state"))
        steps.append([])
        while len(steps[-1]) < 3 and not (steps[-1] and steps[-1][-1][2]):
            steps[-1].append(env.step(2))
    for (frame, *rest), (other, *others) in zip(*steps, strict=True):
        assert np.array_equal(frame, other) and rest == others
