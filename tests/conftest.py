"""A real but untrained checkpoint that env and agent tests share."""

from __future__ import annotations

import pytest
import torch
from small_models import BACKBONE, awake

from lssvwm_envs.minigrid import image_envs
from lssvwm_rl.checkpoints import CONTEXTS
from lssvwm_rl.data.collect import RandomPolicy, collect
from lssvwm_rl.world_model import WorldModel
from lssvwm_rl.world_model_config import WorldModelConfig

ENV_ID = "MiniGrid-MemoryS7-v0"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> str:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("checkpoint")
    store = collect(
        image_envs(ENV_ID, max_steps=20),
        lambda envs, seed: RandomPolicy(envs.single_action_space, seed),
        folder / CONTEXTS,
        episodes=4,
        num_envs=2,
    )
    torch.manual_seed(0)
    config = WorldModelConfig(
        store.header.frame_shape, store.header.action_space, backbone=BACKBONE, readout_size=12, head_width=32
    )
    model = WorldModel(config)
    awake(model)
    model.save_pretrained(folder)
    return str(folder)
