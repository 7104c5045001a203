"""A real but untrained checkpoint that env and agent tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lssvwm_envs.make import image_envs
from lssvwm_rl.data.collect import collect
from lssvwm_rl.model.checkpoint_files import CONTEXTS
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.onnx_export import export_onnx
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.policy import RandomPolicy
from support.small_models import BACKBONE, awake

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
        frame_shape=store.header.frame_shape,
        action_space=store.header.action_space,
        backbone=BACKBONE,
        feature_size=12,
        head_width=32,
    )
    model = WorldModel(config)
    awake(model)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def onnx_folder(tmp_path_factory) -> Path:
    """ONNX graphs of the packaged maze-memory, which has vectors and a recollection, with one denoising step."""
    folder = tmp_path_factory.mktemp("onnx") / "dreams"
    export_onnx("maze-memory", folder, denoise_steps=1)
    return folder
