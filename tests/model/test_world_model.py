"""Dreamt steps, what moves them, and input that does not fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces

from lssvwm_rl.model.backbone import match_depth
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.spaces import space_to_json
from support.small_models import (
    BACKBONE,
    CLOSE,
    assert_memories_close,
    double_model,
    random_clip,
    small_config,
    small_model,
)

ACTION_SPACES = [spaces.Discrete(4, start=2), spaces.MultiDiscrete([3, 4]), spaces.Box(-2, 3, (2,))]


def test_a_row_dreams_alike_alone_and_in_a_batch():
    model = double_model()
    frames, actions, _ = random_clip(model, rows=3, frames=4)
    memory, _ = model.observe(model.initial_memory(3), frames, actions)

    def dream(rows):
        generators = [torch.Generator().manual_seed(i) for i in rows]
        return model.imagine(memory.select(torch.tensor(rows)), torch.tensor(rows), generators, denoise_steps=3)

    together, alone = dream([0, 1, 2]), dream([1])
    assert torch.equal(together.frame[1], alone.frame[0])
    torch.testing.assert_close(together.reward[1:2], alone.reward, **CLOSE)
    assert together.memory.frames.tolist() == [5, 5, 5]


def test_imagine_is_observe_of_its_own_frame():
    model = small_model(vector_size=2)
    frames, actions, vectors = random_clip(model, frames=3)
    memory, _ = model.observe(model.initial_memory(2), frames, actions, vectors)
    kept = memory.clone()
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    step = model.imagine(memory, torch.tensor([1, 2]), generators)
    assert_memories_close(memory, kept, rtol=0, atol=0)
    assert step.vector is not None
    again, prediction = model.observe(memory, step.frame[:, None], torch.tensor([[1], [2]]), step.vector[:, None])
    assert_memories_close(again, step.memory, rtol=0, atol=0)
    assert torch.equal(prediction.terminated[:, 0], step.terminated)


@pytest.mark.parametrize("space", ACTION_SPACES)
def test_every_kind_of_action_is_heard(space):
    model = small_model(action_space=space_to_json(space))
    space.seed(0)
    a, b = space.sample(), space.sample()
    while np.array_equal(a, b):
        b = space.sample()
    frames, _, _ = random_clip(model, rows=1, frames=2)

    def readouts(second):
        actions = torch.as_tensor(np.stack([a, second]))[None]
        return model.observe(model.initial_memory(1), frames, actions)[1].features

    assert torch.equal(readouts(a)[:, 0], readouts(b)[:, 0])
    assert not torch.allclose(readouts(a)[:, 1], readouts(b)[:, 1])
    other_first = torch.as_tensor(np.stack([b, a]))[None]
    ignored = model.observe(model.initial_memory(1), frames, other_first)[1].features
    assert torch.equal(ignored, readouts(a)), "no action led into the first frame"


def test_bad_input_is_named():
    model = small_model()
    frames, actions, _ = random_clip(model)
    with pytest.raises(ValueError, match="do not fit the model"):
        model.observe(model.initial_memory(2), frames[..., :2], actions)
    with pytest.raises(ValueError, match="do not agree"):
        model.observe(model.initial_memory(3), frames, actions)
    with pytest.raises(ValueError, match="denoise_steps"):
        model.imagine(model.initial_memory(1), torch.tensor([0]), [torch.Generator()], denoise_steps=0)
    with pytest.raises(ValueError, match="grid"):
        small_config(grid=(3, 3))
    with pytest.raises(ValueError, match="The kind 'mamba' is unknown; use one of block_ssm"):
        dataclasses.replace(BACKBONE, kind="mamba")
    with pytest.raises(ValueError, match="A window of 0 frames"):
        dataclasses.replace(BACKBONE, kind="window", window=0)
    assert dataclasses.replace(BACKBONE, kind="ssm", window=0), "which has no window"
    with pytest.raises(ValueError, match="not 'window'"):
        match_depth(dataclasses.replace(BACKBONE, kind="window"), "block_ssm", (4, 4))
    vector_model = small_model(vector_size=2)
    with pytest.raises(ValueError, match="vectors of 2 numbers"):
        vector_model.imagine_frame(vector_model.initial_memory(1), torch.tensor([0]), None, [torch.Generator()])
    with pytest.raises(ValueError, match="block .3, 3. does not divide the token grid"):
        small_model(backbone=dataclasses.replace(BACKBONE, blocks=(3,)))
    with pytest.raises(ValueError, match="format version 7, this package reads 1 to 2"):
        WorldModelConfig.from_json(small_config().to_json().replace('"format_version": 2', '"format_version": 7'))
    with pytest.raises(ValueError, match="readout_size is now feature_size"):
        WorldModelConfig.from_json(small_config().to_json().replace('"feature_size"', '"readout_size"'))
