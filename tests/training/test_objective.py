"""What training minimises: losses that padding does not touch, that reach every weight, of clips and of streams."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lssvwm_rl.data.clips import Batch, clip_batch, history_of
from lssvwm_rl.data.store import Episode, StoreHeader
from lssvwm_rl.model.backbone import match_depth
from lssvwm_rl.model.config import KINDS
from lssvwm_rl.model.fast_weights import FastWeightsConfig
from lssvwm_rl.model.scan.block import BlockScan
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.objective import Objective, ObjectiveConfig
from lssvwm_rl.training.presets import PRESETS, model_config
from support.small_models import (
    CLOSE,
    DISCRETE,
    SMALL_RESERVOIR,
    assert_memories_close,
    double_model,
    random_batch,
    random_clip,
    small_config,
    small_model,
)


@pytest.mark.parametrize(("objective", "shortcut"), [("two_stream", False), ("two_stream", True), ("prefix", False)])
@pytest.mark.parametrize("vector_size", [0, 2])
def test_loss_ignores_padding_and_reaches_every_weight(objective, shortcut, vector_size):
    model = double_model(shortcut=shortcut, vector_size=vector_size)
    batch, asked = random_batch(model, [8, 5], 8), Objective(model, ObjectiveConfig(name=objective, recall_pairs=4))
    batch = dataclasses.replace(batch, terminated=torch.arange(8).expand(2, 8) % 2 == 0)
    losses, *_ = asked(batch, None, torch.Generator().manual_seed(0))
    garbled = dataclasses.replace(
        batch,
        frames=torch.where(batch.mask[..., None, None, None], batch.frames, 255 - batch.frames),
        rewards=torch.where(batch.mask, batch.rewards, 99.0),
    )
    again, *_ = asked(garbled, None, torch.Generator().manual_seed(0))
    for name, value in losses.items():
        torch.testing.assert_close(again[name], value, **CLOSE, msg=lambda m, name=name: f"{name}: {m}")
    assert ("vector" in losses) == bool(vector_size)
    losses["total"].backward()
    # Half of the prefix batches have no clean frame for the heads; this seed has some.
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_as_many_parameters_trains_and_dreams(kind):
    header = StoreHeader((64, 64, 3), DISCRETE)
    for preset in PRESETS:
        with torch.device("meta"):
            ours, other = (
                sum(p.numel() for p in WorldModel(model_config(preset, header, k)).parameters())
                for k in ("block_ssm", kind)
            )
        assert abs(other / ours - 1) < 0.05, (preset, ours, other)
    model = double_model(backbone=match_depth(small_config().backbone, kind, (4, 4)))
    batch = random_batch(model, [6, 4], 6)
    losses, *_ = Objective(model, ObjectiveConfig())(batch, None, torch.Generator().manual_seed(0))
    runs = []
    model.backbone.layers[0].mlp.register_forward_hook(lambda *_: runs.append(1))
    again, *_ = Objective(model, ObjectiveConfig(), recompute=True)(batch, None, torch.Generator().manual_seed(0))
    assert torch.equal(losses["total"], again["total"])
    losses["total"].backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert gradients.keys() == dict(model.named_parameters()).keys()
    model.zero_grad()
    again["total"].backward()
    assert len(runs) == 2, "once forward and once more in the backward pass"
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], **CLOSE)
    memory, _ = model.observe(model.initial_memory(2), batch.frames, batch.actions)
    step = model.imagine(memory, torch.tensor([0, 1]), [torch.Generator() for _ in range(2)])
    assert step.frame.float().std() > 0
    grows = step.memory.nbytes > memory.nbytes
    assert grows == (kind == "causal"), "memory is constant in size, but for a cache of all frames"


@pytest.mark.parametrize("changes", [{}, {"reservoir": SMALL_RESERVOIR}])
@pytest.mark.parametrize("objective", ["two_stream", "prefix"])
def test_streamed_chunks_give_the_losses_of_the_whole_clip(objective, changes):
    """With the same noise in every frame, which prefix clips of any length do not have."""
    model = double_model(**changes)
    asked = Objective(
        model, ObjectiveConfig(name=objective, context_noise=0.0, rarity_power=0.0)
    ).eval()  # no new moments
    batch = random_batch(model, [8, 8], 8)
    halves = [clip_slice(batch, slice(0, 4)), clip_slice(batch, slice(4, 8))]
    memory = model.initial_memory(2)
    rewards = []
    for half in halves:
        losses, memory, _ = asked(half, memory, torch.Generator().manual_seed(0))
        rewards.append(losses["reward"])
        assert not any(t.requires_grad for t in memory.tensors().values())
    whole, _ = model.observe(model.initial_memory(2), batch.frames, batch.actions)
    assert_memories_close(memory, whole, **CLOSE)
    if objective == "two_stream":
        reward = asked(batch, None, torch.Generator().manual_seed(0))[0]["reward"]
        torch.testing.assert_close(torch.stack(rewards).mean(), reward, **CLOSE)


def clip_slice(batch, piece):
    parts = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    return Batch(**{name: None if part is None else part[:, piece] for name, part in parts.items()})


def test_settings_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="Objective 'both'"):
        ObjectiveConfig(name="both")
    with pytest.raises(ValueError, match="tau_floor must be above 0"):
        ObjectiveConfig(tau_floor=0.0)
    with pytest.raises(ValueError, match="Shortcut training needs a clean stream"):
        Objective(small_model(shortcut=True), ObjectiveConfig(name="prefix"))


@pytest.mark.parametrize("objective", ["two_stream", "prefix"])
def test_under_mixed_precision_the_scan_stays_in_fp32_and_every_weight_learns(objective):
    model = small_model(shortcut=objective == "two_stream")
    asked = Objective(model, ObjectiveConfig(name=objective))
    seen = []
    for module in model.modules():
        if isinstance(module, BlockScan):
            module.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs[1].dtype))
    batch = random_batch(model, [6, 6, 4, 5], 6)
    memory = model.initial_memory(4)
    with torch.autocast("cpu", torch.bfloat16):
        losses, after, _ = asked(batch, memory, torch.Generator().manual_seed(1))
    losses["total"].backward()
    assert set(seen) == {torch.float32}
    assert {t.dtype for t in after.tensors().values()} == {torch.float32, torch.int64}
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == [] and all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("vector_size", [0, 2])
def test_clips_begin_with_the_recollection_of_what_came_before(vector_size):
    """Of rows with 0, 3 and 70 earlier frames: as if these had been observed, but for the trained layers."""
    model = double_model(
        reservoir=SMALL_RESERVOIR, fast_weights=FastWeightsConfig(size=16, values=6), vector_size=vector_size
    )
    frames, actions, vectors = random_clip(model, rows=3, frames=80)
    counts = (0, 3, 70)
    episodes = [
        Episode(
            frames[i, : count + 10].numpy(),
            actions[i, 1 : count + 10].numpy(),
            np.zeros(count + 9, np.float32),
            False,
            True,
            None if vectors is None else vectors[i, : count + 10].float().numpy(),
        )
        for i, count in enumerate(counts)
    ]
    clips = clip_batch([e.cut(c, c + 10) for e, c in zip(episodes, counts, strict=True)], 10, counts)
    earlier = [e.cut(0, c) if c else None for e, c in zip(episodes, counts, strict=True)]
    start = Objective(model, ObjectiveConfig())._start(dataclasses.replace(clips, before=history_of(earlier)))
    for i, (episode, count) in enumerate(zip(episodes, counts, strict=True)):
        row, expected = start.select(torch.tensor([i])), model.initial_memory(1)
        if count:
            seen = clip_batch([episode.cut(0, count)], count)
            expected, _ = model.observe(expected, seen.frames, seen.actions, seen.vectors)
        for ours, theirs in zip(
            (*row.reservoir, *row.fast_weights), (*expected.reservoir, *expected.fast_weights), strict=True
        ):
            torch.testing.assert_close(ours, theirs, **CLOSE)
        size = model.config.reservoir.size
        torch.testing.assert_close(row.features[:, -size:], expected.features[:, -size:], **CLOSE)
        assert not row.features[:, :-size].any() and row.frames == 0
