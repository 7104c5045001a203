"""Fast weights are recursive least squares in every form in which frames come, and recall what once followed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_rl.model.components import principal_components
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.engine import make_engine
from lssvwm_rl.model.fast_weights import DRIFT, NOISE, FastWeights, FastWeightsConfig, least_squares
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.native.library import load_kernels
from support.small_models import (
    CLOSE,
    DISCRETE,
    SMALL_RESERVOIR,
    assert_memories_close,
    double_model,
    random_clip,
    small_config,
    small_model,
)

SMALL = FastWeightsConfig(size=16, values=6)
BOX = {"type": "Box", "low": [-1.0, 0.0], "high": [1.0, 4.0], "shape": [2], "dtype": "float32"}


@given(st.integers(1, 40), st.integers(0, 1_000))
@settings(max_examples=20, deadline=None)
def test_many_frames_at_once_are_the_rule_frame_by_frame(frames, seed):
    g = torch.Generator().manual_seed(seed)
    keys = torch.randn(2, 3, frames, 8, generator=g, dtype=torch.float64)
    keys = keys / keys.norm(dim=-1, keepdim=True)
    values = torch.randn(2, 1, frames, 5, generator=g, dtype=torch.float64)
    weights = torch.randn(2, 3, 5, 8, generator=g, dtype=torch.float64)
    spread = torch.randn(2, 3, 8, 8, generator=g, dtype=torch.float64)
    covariance = spread @ spread.mT
    recalled, known, after = least_squares(keys, values, (weights, covariance), torch.ones(2, 1, frames).bool())
    for t in range(frames):
        now, key = torch.einsum("bkvn,bkn->bkv", weights, keys[:, :, t]), keys[:, :, t]
        torch.testing.assert_close(recalled[:, :, t], now, **CLOSE)
        covariance = covariance + DRIFT * torch.eye(8, dtype=torch.float64)
        crossed = torch.einsum("bknm,bkm->bkn", covariance, key)
        torch.testing.assert_close(known[:, :, t], (1 - (crossed * key).sum(dim=-1)).clamp(0, 1), **CLOSE)
        gain = crossed / (NOISE + (crossed * key).sum(dim=-1, keepdim=True))
        weights = weights + (values[:, :, t] - now)[..., None] * gain[:, :, None]
        covariance = covariance - gain[..., None] * crossed[:, :, None]
    torch.testing.assert_close(after, (weights, covariance), **CLOSE)


def test_without_drift_it_is_the_ridge_regression_of_all_frames(monkeypatch):
    monkeypatch.setattr("lssvwm_rl.model.fast_weights.DRIFT", 0.0)
    g = torch.Generator().manual_seed(0)
    keys = torch.nn.functional.normalize(torch.randn(1, 1, 30, 8, generator=g, dtype=torch.float64), dim=-1)
    values = torch.randn(1, 1, 30, 5, generator=g, dtype=torch.float64)
    start = torch.zeros(1, 1, 5, 8, dtype=torch.float64), torch.eye(8, dtype=torch.float64)[None, None]
    *_, (weights, _) = least_squares(keys, values, start, torch.ones(1, 1, 30).bool())
    k, v = keys[0, 0], values[0, 0]
    ridge = torch.linalg.solve(k.T @ k + NOISE * torch.eye(8, dtype=torch.float64), k.T @ v)
    torch.testing.assert_close(weights[0, 0], ridge.T, **CLOSE)


def test_ten_thousand_frames_keep_the_covariance_sound():
    """In fp32: what rounding adds up to stays far below what the filter takes as noise."""
    g = torch.Generator().manual_seed(0)
    keys = torch.nn.functional.normalize(torch.randn(1, 1, 64, 16, generator=g), dim=-1)
    values, states = torch.randn(1, 1, 64, 5, generator=g), (torch.zeros(1, 1, 5, 16), torch.eye(16)[None, None])
    for _ in range(160):
        *_, states = least_squares(keys, values, states, torch.ones(1, 1, 64).bool())
    assert torch.linalg.eigvalsh(states[1][0, 0]).min() > 0
    assert torch.isfinite(states[0]).all()


@pytest.mark.parametrize("vector_size", [0, 3])
@pytest.mark.parametrize("reservoir", [False, True])
def test_all_forms_of_observing_agree(vector_size, reservoir):
    kwargs = {"reservoir": SMALL_RESERVOIR} if reservoir else {}
    model = double_model(fast_weights=SMALL, vector_size=vector_size, **kwargs)
    frames, actions, vectors = random_clip(model, rows=2, frames=70)
    whole, prediction = model.observe(model.initial_memory(2), frames, actions, vectors)
    memory, features = model.initial_memory(2), []
    for now in (slice(0, 1), slice(1, 2), slice(2, 66), slice(66, 70)):
        part_vectors = None if vectors is None else vectors[:, now]
        memory, part = model.observe(memory, frames[:, now], actions[:, now], part_vectors)
        features.append(part.features)
    torch.testing.assert_close(torch.cat(features, dim=1), prediction.features, **CLOSE)
    assert_memories_close(memory, whole, **CLOSE)


@pytest.mark.parametrize("engine", ["torch", pytest.param("native", marks=pytest.mark.skipif(
    load_kernels() is None, reason="no compiler here"))])  # fmt: skip
@pytest.mark.parametrize("vector_size", [0, 3])
def test_engines_dream_what_the_model_does(engine, vector_size):
    model = double_model(fast_weights=SMALL, vector_size=vector_size, reservoir=SMALL_RESERVOIR)
    frames, actions, vectors = random_clip(model, rows=3, frames=12)
    memory, _ = model.observe(model.initial_memory(3), frames, actions, vectors)
    fast, action = make_engine(model, engine), torch.tensor([0, 2, 3])
    ours = theirs = memory
    for step in range(3):
        noise = model.draw_noise([torch.Generator().manual_seed(10 * step + i) for i in range(3)])
        a, b = model.imagine(ours, action, noise), fast.imagine(theirs, action, noise)
        assert torch.equal(a.frame, b.frame)
        ours, theirs = a.memory, b.memory
        assert_memories_close(ours, theirs, **CLOSE)
    beside, _ = fast.observe(memory, frames[:, :1], actions[:, :1], None if vectors is None else vectors[:, :1])
    again, _ = model.observe(memory, frames[:, :1], actions[:, :1], None if vectors is None else vectors[:, :1])
    assert_memories_close(beside, again, **CLOSE)


@pytest.mark.parametrize("space", [DISCRETE, {"type": "MultiDiscrete", "nvec": [3, 2], "start": [0, 0]}, BOX])
def test_what_followed_is_recalled_when_it_happens_again(space):
    """Three places in a row are passed twice: at the second time all is known, and other actions are not."""
    g = torch.Generator().manual_seed(0)
    fast = FastWeights(FastWeightsConfig(size=256, values=12), 8, 12, (2, 2), space, 0).double()
    places = torch.rand(200, 2, 2, 12, generator=g, dtype=torch.float64) * 2 - 1
    fast.fit(principal_components(places.flatten(0, 2)))
    clip = torch.cat([places[:3], places[3:60], places[:3]])[None]
    actions = torch.ones(1, clip.shape[1], *(() if space is DISCRETE else (2,)))
    actions = actions if space is BOX else actions.long()
    none = torch.arange(clip.shape[1])[None] == 0
    _, states = fast(clip, actions, none, None, fast.initial_state(1))
    codes = torch.nn.functional.linear(places[3] - fast.mean, fast.encode).flatten()
    known = fast.expect(actions[:, 0], none[:, 1], None, states)
    other = fast.expect(torch.zeros_like(actions[:, 0]), none[:, 1], None, states)
    assert (known.values[0, 0] - codes).square().mean() < 0.01 * codes.square().mean()
    assert known.known > 0.95 and other.known < 0.5


def test_a_vector_is_a_place_that_is_recalled_from_everywhere():
    g = torch.Generator().manual_seed(0)
    fast = FastWeights(FastWeightsConfig(size=256, values=12), 8, 12, (2, 2), DISCRETE, 2).double()
    clip = torch.rand(1, 50, 2, 2, 12, generator=g, dtype=torch.float64) * 2 - 1
    fast.fit(principal_components(clip.flatten(0, 3)))
    vectors = torch.rand(1, 50, 2, generator=g, dtype=torch.float64)
    actions, none = torch.zeros(1, 50, dtype=torch.int64), torch.arange(50)[None] == 0
    _, states = fast(clip, actions, none, vectors, fast.initial_state(1))
    codes = torch.nn.functional.linear(clip[0, 7] - fast.mean, fast.encode).flatten()
    by_place = fast.expect(actions[:, 0], none[:, 1], vectors[:, 7], states)
    assert (by_place.values[0, 1] - codes).square().mean() < 0.01 * codes.square().mean()
    nearby = fast.expect(actions[:, 0], none[:, 1], vectors[:, 7] + 0.004, states).known[0, 1]
    far = fast.expect(actions[:, 0], none[:, 1], vectors[:, 7] + 5, states).known[0, 1]
    assert nearby > 0.8 and far < 0.5


def test_nothing_larger_than_a_frame_is_recalled_when_keys_are_used_up():
    """As many frames as a key has numbers: what unknown keys recall is large there, and no frame."""
    g = torch.Generator().manual_seed(0)
    fast = FastWeights(FastWeightsConfig(size=32, values=12), 8, 12, (2, 2), DISCRETE, 0).double()
    clip = torch.rand(16, 32, 2, 2, 12, generator=g, dtype=torch.float64) * 2 - 1
    fast.fit(principal_components(clip.flatten(0, 3)))
    actions, none = torch.zeros(16, 32, dtype=torch.int64), (torch.arange(32) == 0).expand(16, 32)
    _, states = fast(clip, actions, none, None, fast.initial_state(16))
    expected = fast.expect(actions[:, 0] + 1, none[:, 1], None, states)
    _, picture = fast.recalled(expected)
    shown = torch.nn.functional.linear(picture, fast.encode).square().mean(dim=(1, 2, 3))
    assert expected.values.square().mean(dim=(1, 2)).max() > 3 and shown.max() <= 1


def test_codes_of_the_data_have_unit_mean_square():
    fast = FastWeights(SMALL, 8, 12, (2, 2), DISCRETE, 0).double()
    patches = torch.rand(500, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    patches[:, :6] *= 0.1
    fast.fit(principal_components(patches))
    codes = torch.nn.functional.linear(patches - fast.mean, fast.encode)
    assert codes.square().mean().item() == pytest.approx(1, abs=0.1)
    covariance = codes.T @ codes / len(codes)
    torch.testing.assert_close(covariance, torch.diag(covariance.diag()), **CLOSE)


def test_a_checkpoint_and_a_memory_come_back_whole(tmp_path):
    model = small_model(fast_weights=SMALL)
    model.save_pretrained(tmp_path / "model")
    again = WorldModel.from_pretrained(tmp_path / "model")
    assert again.config == model.config
    frames, actions, _ = random_clip(model)
    memory, _ = model.observe(model.initial_memory(2), frames, actions)
    assert_memories_close(again.observe(again.initial_memory(2), frames, actions)[0], memory, rtol=1e-5, atol=1e-5)
    memory.save(tmp_path / "memory.safetensors")
    assert_memories_close(Memory.load(tmp_path / "memory.safetensors"), memory, rtol=0, atol=0)
    assert WorldModelConfig.from_json(small_config().to_json()).fast_weights == FastWeightsConfig()


@pytest.mark.parametrize("wrong", [{"size": 7}, {"size": -2}, {"size": 8, "values": 0}])
def test_sizes_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="even size"):
        FastWeightsConfig(**wrong)


def test_a_dreamt_frame_is_taken_for_what_is_recalled_if_it_is_like_it():
    g = torch.Generator().manual_seed(0)
    fast = FastWeights(FastWeightsConfig(size=256, values=12), 8, 12, (2, 2), DISCRETE, 0).double()
    clip = torch.rand(1, 40, 2, 2, 12, generator=g, dtype=torch.float64) * 2 - 1
    fast.fit(principal_components(clip.flatten(0, 3)))
    actions, none = torch.zeros(1, 40, dtype=torch.int64), torch.arange(40)[None] == 0
    again = torch.cat([clip, clip[:, :1]], dim=1)
    _, states = fast(
        again, torch.zeros(1, 41, dtype=torch.int64), torch.arange(41)[None] == 0, None, fast.initial_state(1)
    )
    expected = fast.expect(actions[:, 0], none[:, 1], None, states)  # of clip[:, 1]
    nearly, other = clip[:, 1] + 0.1 * torch.randn(clip[:, 1].shape, generator=g, dtype=torch.float64), clip[:, 9]
    codes = {
        name: fast._codes(x[:, None])[:, 0] for name, x in (("real", clip[:, 1]), ("nearly", nearly), ("other", other))
    }
    taken, *_ = fast.write(expected, nearly, states, dreamt=True)
    assert (taken - codes["real"]).norm() < 0.3 * (codes["nearly"] - codes["real"]).norm()
    seen, *_ = fast.write(expected, nearly, states)
    torch.testing.assert_close(seen, codes["nearly"], **CLOSE)
    unlike, *_ = fast.write(expected, other, states, dreamt=True)
    assert (unlike - codes["other"]).norm() < 0.1 * (codes["other"] - codes["real"]).norm()
