"""The reservoir is a plain recurrence, in every form in which frames come, and holds what was seen long ago."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_rl.model.components import principal_components
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.reservoir import RARE, Reservoir, ReservoirConfig, leaky_sums
from lssvwm_rl.model.world_model import WorldModel
from support.small_models import (
    CLOSE,
    SMALL_RESERVOIR,
    assert_memories_close,
    double_model,
    random_clip,
    small_config,
    small_model,
)


@given(st.integers(1, 200), st.integers(0, 1_000))
@settings(max_examples=20, deadline=None)
def test_leaky_sums_are_the_recurrence_across_chunks(frames, seed):
    g = torch.Generator().manual_seed(seed)
    written = torch.randn(2, frames, 3, 4, 5, generator=g, dtype=torch.float64)
    decay, state = torch.rand(4, generator=g).double(), torch.randn(2, 3, 4, 5, generator=g, dtype=torch.float64)
    expected, now = [], state
    for t in range(frames):
        now = decay[:, None] * now + written[:, t]
        expected.append(now)
    torch.testing.assert_close(leaky_sums(written, decay, state), torch.stack(expected, dim=1), **CLOSE)


def test_reads_are_what_the_formulas_say():
    """One block, one head, token by token in plain numbers."""
    reservoir = Reservoir(ReservoirConfig(blocks=(2,), width=6, heads=1, head_size=4, reads=3), 12, (2, 2)).double()
    patches = torch.rand(1, 3, 2, 2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    reads, (state,) = reservoir(patches, reservoir.initial_state(1))
    total = torch.zeros(4, dtype=torch.float64)
    for t in range(3):
        total = reservoir.decay * total
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            code = reservoir.encode @ patches[0, t, i, j] + reservoir.encode_bias
            token = code.sign() * (code.abs() - RARE).clamp(min=0) + reservoir.position[i, j]
            gate = reservoir.gate0 @ token
            gate = gate / (gate.square().mean() + 1e-6).sqrt()
            total = total + (gate @ reservoir.query0) * (reservoir.x0 @ token)
        level = total / (total.square().mean() + 1e-10).sqrt()
        torch.testing.assert_close(reads[0, t], (reservoir.project0 @ level / 3).tanh(), **CLOSE)
    torch.testing.assert_close(state[0, 0, 0], total, **CLOSE)


def test_all_forms_of_observing_agree():
    model = double_model(reservoir=SMALL_RESERVOIR)
    frames, actions, _ = random_clip(model, rows=2, frames=70)
    whole, prediction = model.observe(model.initial_memory(2), frames, actions)
    memory, features = model.initial_memory(2), []
    for now in (slice(0, 1), slice(1, 2), slice(2, 66), slice(66, 70)):
        memory, part = model.observe(memory, frames[:, now], actions[:, now])
        features.append(part.features)
    torch.testing.assert_close(torch.cat(features, dim=1), prediction.features, **CLOSE)
    assert_memories_close(memory, whole, **CLOSE)
    assert whole.features.shape[1] == model.config.feature_size + model.config.reservoir.size
    assert torch.equal(whole.readout(), whole.features) and whole.readout().shape[1] == model.readout_size


def test_what_was_seen_once_is_read_hundreds_of_frames_later():
    model = double_model(reservoir=SMALL_RESERVOIR)
    frames, _, _ = random_clip(model, rows=1, frames=1)
    other, corridor = 255 - frames, torch.full((1, 400, *frames.shape[2:]), 100, dtype=torch.uint8)
    size = model.config.reservoir.size

    def read(first: torch.Tensor) -> torch.Tensor:
        history = torch.cat([first, corridor], dim=1)
        memory, _ = model.observe(model.initial_memory(1), history, torch.zeros(1, 401, dtype=torch.int64))
        return memory.features[:, -size:]

    assert (read(frames) - read(other)).abs().max() > 1e-5
    assert (read(frames) - read(frames)).abs().max() == 0


def test_fitting_whitens_patches_and_standardises_reads():
    reservoir = Reservoir(ReservoirConfig(blocks=(1, 2), width=5, heads=3, head_size=8, reads=5), 12, (2, 2)).double()
    g = torch.Generator().manual_seed(0)
    mixed = torch.randn(5, 12, generator=g, dtype=torch.float64) / torch.arange(1, 6)[:, None]
    patches = 0.2 + torch.randn(4_000, 5, generator=g, dtype=torch.float64) @ mixed
    reservoir.fit(principal_components(patches))
    codes = patches @ reservoir.encode.T + reservoir.encode_bias
    torch.testing.assert_close(codes.mean(dim=0), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(torch.cov(codes.T), torch.eye(5, dtype=torch.float64), rtol=0, atol=0.05)
    clip = 9 * torch.rand(8, 30, 2, 2, 12, generator=g, dtype=torch.float64)
    mask = torch.arange(30) < torch.randint(5, 30, (8, 1), generator=g)
    reservoir.fit_reads(clip, mask)
    raw = reservoir(clip, reservoir.initial_state(8))[0][mask].atanh() * 3
    torch.testing.assert_close(raw.mean(dim=0), torch.zeros(10, dtype=torch.float64), rtol=0, atol=1e-6)
    assert (raw.std(dim=0) - 1).abs().max() < 0.05


def test_a_sight_that_was_rare_is_read_behind_many_common_ones():
    """One of two spots in the first of 60 frames of walls; the sum of all that was seen would not tell which."""
    reservoir = Reservoir(ReservoirConfig(blocks=(1,)), 48, (1, 1)).double()
    g = torch.Generator().manual_seed(0)
    walls = torch.randn(400, 60, 1, 1, 12, generator=g, dtype=torch.float64)
    walls = walls @ torch.randn(12, 48, generator=g, dtype=torch.float64)
    which = torch.arange(400) % 2
    spot = torch.nn.functional.one_hot(which, 48).to(walls) * 3
    walls[:, 0, 0, 0] += spot
    reservoir.fit(principal_components(walls.flatten(0, 3)))
    reservoir.fit_reads(walls[:50], torch.ones(50, 60, dtype=torch.bool))
    reads = reservoir(walls, reservoir.initial_state(400))[0][:, -1]
    known, new = reads[:300], reads[300:]
    ridge = known.T @ known + torch.eye(reads.shape[1]).to(known)
    weights = torch.linalg.solve(ridge, known.T @ (2.0 * which[:300] - 1).to(known))
    assert ((new @ weights > 0) == which[300:]).double().mean() > 0.9


def test_random_weights_are_the_same_everywhere():
    reservoir = Reservoir(ReservoirConfig(blocks=(1, 2)), 12, (2, 2))
    assert reservoir.x0.flatten()[:3].tolist() == pytest.approx([0.2147772, -0.2625771, -0.4239668], abs=1e-6)
    again = Reservoir(ReservoirConfig(blocks=(1, 2)), 12, (2, 2))
    assert all(torch.equal(a, b) for a, b in zip(reservoir.buffers(), again.buffers(), strict=True))


def test_a_checkpoint_and_a_memory_come_back_whole(tmp_path):
    model = small_model(reservoir=SMALL_RESERVOIR)
    model.save_pretrained(tmp_path / "model")
    again = WorldModel.from_pretrained(tmp_path / "model")
    assert again.config == model.config
    frames, actions, _ = random_clip(model)
    memory, _ = model.observe(model.initial_memory(2), frames, actions)
    assert_memories_close(again.observe(again.initial_memory(2), frames, actions)[0], memory, rtol=1e-5, atol=1e-5)
    memory.save(tmp_path / "memory.safetensors")
    assert_memories_close(Memory.load(tmp_path / "memory.safetensors"), memory, rtol=0, atol=0)
    rows = memory.repeat(2).select(torch.tensor([3, 0]))
    assert_memories_close(rows, memory.select(torch.tensor([1, 0])), rtol=0, atol=0)


def test_configs_without_a_reservoir_are_those_of_before():
    assert "reservoir" not in small_config().to_json()
    assert WorldModelConfig.from_json(small_config().to_json()).reservoir == ReservoirConfig()
    with pytest.raises(ValueError, match="at least 1"):
        ReservoirConfig(blocks=(0,))
    with pytest.raises(ValueError, match="positive"):
        ReservoirConfig(half_lives=(0.0, 10.0))
