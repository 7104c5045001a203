"""Training sees what inference sees: nothing of the future, and for a noised frame the memory of the clean ones."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from lssvwm_rl.model.backbone import Backbone, Pass
from lssvwm_rl.model.config import BackboneConfig
from lssvwm_rl.model.flow import add_noise
from lssvwm_rl.model.memory import Memory
from support.small_models import BACKBONE, CLOSE, LAYOUTS, awake, double_model, random_clip


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize(
    ("kind", "block"), [("block_ssm", 1), ("block_ssm", 2), ("block_ssm", 4), ("ssm", 4), ("window", 4), ("causal", 4)]
)
@pytest.mark.parametrize("changed", [1, 3])
def test_no_layer_leaks_from_the_future(kind, block, changed, streams):
    config = BackboneConfig(
        kind, width=16, blocks=(block,), state_size=4, scan_head_size=8, window=3, attention_head_size=8,
        condition_width=8,
    )  # fmt: skip
    torch.manual_seed(0)
    backbone = awake(Backbone(config, (4, 4))).double()
    tokens = torch.randn(1, 5, streams, 4, 4, 16, dtype=torch.float64)
    condition = torch.randn(1, 5, streams, 8, dtype=torch.float64)
    start = Pass(frames=torch.zeros(1, dtype=torch.int64))
    before, _ = backbone(tokens, condition, backbone.initial_memory(1), start)
    moved, moved_condition = tokens.clone(), condition.clone()
    moved[:, changed] += torch.randn(4, 4, 16)
    moved_condition[:, changed] += 1
    after, _ = backbone(moved, moved_condition, backbone.initial_memory(1), start)
    torch.testing.assert_close(after[:, :changed], before[:, :changed], **CLOSE)
    assert (after[:, changed] - before[:, changed]).abs().max() > 1e-6
    reach = changed + config.window if kind == "window" else 5  # frames from there on do not know the changed one
    torch.testing.assert_close(after[:, reach:], before[:, reach:], **CLOSE)
    later = (after[:, changed + 1 : reach] - before[:, changed + 1 : reach]).abs().amax(dim=(0, 3, 4, 5))
    assert (later > 1e-6).all(), "the past must reach later frames"
    if streams == 2:
        readers = tokens.clone()
        readers[:, changed, 0] += 1
        after, _ = backbone(readers, condition, backbone.initial_memory(1), start)
        others = [t for t in range(5) if t != changed]
        torch.testing.assert_close(after[:, others], before[:, others], **CLOSE)
        torch.testing.assert_close(after[:, changed, 1], before[:, changed, 1], **CLOSE)


@pytest.mark.parametrize("vector_size", [0, 3])
@pytest.mark.parametrize(("kind", "blocks"), LAYOUTS[2:])
def test_two_stream_training_denoises_from_the_memory_that_inference_has(kind, blocks, vector_size):
    backbone = dataclasses.replace(BACKBONE, kind=kind, blocks=blocks)
    model = double_model(backbone=backbone, vector_size=vector_size)
    frames, actions, vectors = random_clip(model, frames=6)
    x = model.patches.from_frames(frames, model.dtype)
    g = torch.Generator().manual_seed(3)
    tau = torch.rand(2, 6, generator=g, dtype=model.dtype)
    noise = torch.randn(x.shape, generator=g, dtype=model.dtype)
    noised = add_noise(x, noise, tau)
    pair, taus = torch.stack([noised, x], 2), torch.stack([tau, torch.zeros_like(tau)], 2)
    with torch.no_grad():
        memory, trained = model.initial_memory(2), []
        for piece in (slice(0, 4), slice(4, 6)):  # the second chunk of a stream reads what the first one wrote
            vector = None if vectors is None else vectors[:, piece]
            tokens = model.patch_in(pair[:, piece])
            hidden, condition, layers = model.run(tokens, taus[:, piece], actions[:, piece], vector, memory)
            trained.append(model.predict(hidden[:, :, :1], condition[:, :, :1])[:, :, 0])
            memory = Memory(layers, model.trained_features(hidden[:, -1, 1]), memory.frames + tokens.shape[1])
        trained = torch.cat(trained, dim=1)
        memory = model.initial_memory(2)
        for t in range(6):
            one = slice(t, t + 1)
            vector = None if vectors is None else vectors[:, one]
            tokens = model.patch_in(noised[:, one, None])
            level = tau[:, one, None]
            hidden, condition, _ = model.run(tokens, level, actions[:, one], vector, memory, write=False)
            dreamt = model.predict(hidden, condition)[:, 0, 0]
            torch.testing.assert_close(dreamt, trained[:, t], **CLOSE)
            memory, _ = model.observe(memory, frames[:, one], actions[:, one], vector)
