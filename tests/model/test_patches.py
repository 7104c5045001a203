"""Frames of any size inside a model: padded there, of their own size outside, and padding counts for nothing."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.patches import Patches
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.errors import FrameErrors
from lssvwm_rl.training.noise import patches_of
from lssvwm_rl.training.trainer import train
from support.small_models import DISCRETE, double_model, random_clip, small_config, small_model

SHAPES = [((13, 9, 3), (16, 12)), ((7, 7, 1), (8, 8)), ((3, 21, 4), (4, 24)), ((2, 2, 3), (4, 4))]


@pytest.mark.parametrize(("shape", "padded"), SHAPES)
def test_frames_come_back_as_they_were(shape, padded):
    config = small_config(frame_shape=shape)
    patches = Patches.of(config)
    assert config.padded_to == padded and (4 * patches.height, 4 * patches.width) == padded
    frames = torch.randint(0, 256, (2, 5, *shape), dtype=torch.uint8)
    rows, columns = padded[0] - shape[0], padded[1] - shape[1]
    expected = np.pad(frames.numpy(), ((0, 0), (0, 0), (0, rows), (0, columns), (0, 0)), mode="edge")
    assert np.array_equal(patches.pad(frames).numpy(), expected)
    assert torch.equal(patches.to_frames(patches.from_frames(frames)), frames)


def test_config_records_the_padding():
    padded, plain = small_config(frame_shape=(13, 9, 3)), small_config()
    text = padded.to_json()
    assert json.loads(text)["padded_to"] == [16, 12] and "padded_to" not in plain.to_json()
    assert WorldModelConfig.from_json(text) == padded
    with pytest.raises(ValueError, match=r"padded to \[20, 12\], which this package pads to \(16, 12\)"):
        WorldModelConfig.from_json(json.dumps({**json.loads(text), "padded_to": [20, 12]}))
    with pytest.raises(ValueError, match=r"grid \(0, 4\) of frames .* is empty"):
        small_config(grid=(0, 4))


@pytest.mark.parametrize("shape", [(13, 9, 3), (7, 7, 1)])
def test_errors_are_those_of_real_pixels(shape):
    """Against the mean over the pixels of frames, and whatever is predicted beside them."""
    model = double_model(frame_shape=shape)
    frames = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)
    batch = SimpleNamespace(frames=frames, mask=torch.ones(2, 3, dtype=torch.bool))
    x = model.patches.from_frames(frames, torch.float64)
    errors, tau = FrameErrors(SimpleNamespace(model=model, batch=batch, x=x), 0.0, 0.05), torch.full((2, 3), 0.5)
    other = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)
    predicted = model.patches.from_frames(other, torch.float64)
    expected = ((other.double() - frames.double()) / 127.5).square().mean(dim=(2, 3, 4)) / 0.5**2
    torch.testing.assert_close(errors.velocity_loss(predicted, x, tau.double()), expected, rtol=1e-6, atol=0)
    beside = model.patches.cut_weights(torch.ones(shape[:2])) == 0
    wild = torch.where(beside[..., None].expand(*beside.shape, shape[2]).flatten(-2), 1e6, predicted)
    assert torch.equal(errors.velocity_loss(wild, x, tau.double()), errors.velocity_loss(predicted, x, tau.double()))


def test_memory_of_a_dreamt_frame_is_that_of_the_frame():
    model = small_model(frame_shape=(13, 9, 3)).double()
    frames, actions = random_clip(model, 2, 3)[:2]
    memory, _ = model.observe(model.initial_memory(2), frames, actions)
    step = model.imagine(memory, actions[:, 0], [torch.Generator().manual_seed(i) for i in range(2)], 2)
    assert step.frame.shape == (2, 13, 9, 3)
    seen, _ = model.observe(memory, step.frame[:, None], actions[:, :1])
    for name, tensor in step.memory.tensors().items():
        torch.testing.assert_close(tensor, seen.tensors()[name], rtol=1e-10, atol=1e-10)


def test_frames_are_padded_alike_by_kernels():
    model = small_model(frame_shape=(13, 9, 3))
    frames = torch.randint(0, 256, (2, 3, 13, 9, 3), dtype=torch.uint8)
    torch.testing.assert_close(patches_of(model, frames), model.patches.from_frames(frames), rtol=0, atol=1e-6)


@pytest.mark.parametrize("stream", [False, True])
def test_frames_of_any_size_are_learnt_and_dreamt(stream, tmp_path):
    frames = torch.randint(0, 256, (4, 9, 13, 9, 3), dtype=torch.uint8).numpy()
    header = StoreHeader((13, 9, 3), DISCRETE)
    with EpisodeWriter(tmp_path / "s", header) as writer:
        for i in range(4):
            writer.add(Episode(frames[i], np.arange(8) % 4, np.ones(8, np.float32), False, True, seed=i))
    settings = TrainConfig(batch_size=2, span=4, steps=2, preview_every=1, stream=stream, device="cpu")
    run = train(EpisodeStore(tmp_path / "s"), tmp_path / "run", small_config(frame_shape=(13, 9, 3)), config=settings)
    dream = DreamEnv(str(run), denoise_steps=2)
    assert dream.observation_space.shape == (13, 9, 3)
    first, _ = dream.reset(seed=0)
    assert any(np.array_equal(first, frame) for frame in frames[:, 0]), "a real one"
    assert dream.observation_space.contains(dream.step(1)[0])
