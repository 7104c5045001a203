"""Doubt: how far the last denoising pass moved a dreamt frame, and the scale of it that held-out frames give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model import doubt
from lssvwm_rl.model.checkpoint_files import ASSETS, CONTEXTS, DOUBT
from lssvwm_rl.model.checkpoints import load_contexts, load_engine, load_world_model
from lssvwm_rl.model.doubt import DoubtScale, load_scale, measure_scale, write_scale
from lssvwm_rl.model.predict import observe_episodes
from lssvwm_rl.model.world_model import WorldModel
from support.counting import CountingEngine
from support.small_models import CLOSE, double_model, random_clip, untrained_checkpoint

LEVELS = np.linspace(0, 1, 101)


def generators(rows: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(100 * seed + i) for i in range(rows)]


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    torch.set_num_threads(1)
    return Path(untrained_checkpoint(tmp_path / "checkpoint"))


@pytest.mark.parametrize("changes", [{}, {"token_noise": True}, {"vector_size": 2}])
@pytest.mark.parametrize("steps", [2, 3])
def test_doubt_is_how_far_the_last_pass_moved_the_embedded_frame(changes, steps):
    model = double_model(**changes)
    memory, _ = model.observe(model.initial_memory(2), *random_clip(model, 2, 3))
    action, predicted = torch.tensor([1, 3]), []
    handle = model.patch_out.register_forward_hook(lambda *args: predicted.append(args[-1][:, 0, 0]))
    step = model.imagine(memory, action, generators(2), steps)
    handle.remove()
    assert len(predicted) == steps
    before, after = (model.patch_in(x) for x in (predicted[-2], model.patches.from_frames(step.frame, model.dtype)))
    expected = np.sqrt(((after - before).detach().numpy() ** 2).mean(axis=(1, 2, 3)))
    torch.testing.assert_close(step.doubt.numpy(), expected, **CLOSE)
    assert (expected > 1e-3).all()


def test_one_pass_has_no_doubt():
    model = double_model()
    assert (model.imagine(model.initial_memory(2), torch.tensor([0, 1]), generators(2), 1).doubt == 0).all()


rising = st.lists(st.floats(1e-3, 1, allow_subnormal=False), min_size=101, max_size=101).map(np.cumsum)


@settings(deadline=None)
@given(rising, st.lists(st.floats(-5, 120, allow_subnormal=False), min_size=2, max_size=30))
def test_quantiles_are_those_of_linear_interpolation(quantiles, doubts):
    doubts = np.array([*doubts, *quantiles, np.inf])
    found = DoubtScale(torch.from_numpy(quantiles), 4)(torch.from_numpy(doubts))
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), np.interp(doubts, quantiles, LEVELS).astype(np.float32))


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=101, max_size=101).map(sorted),
    st.lists(st.floats(-1, 13, width=32, allow_subnormal=False), min_size=2, max_size=50).map(sorted),
)
def test_quantiles_rise_with_doubt_also_where_many_frames_have_the_same(quantiles, doubts):
    found = DoubtScale(torch.tensor(quantiles, dtype=torch.float64), 4)(torch.tensor(doubts))
    assert (found.diff() >= 0).all() and found.min() >= 0 and found.max() <= 1
    assert ((found == 1) == (torch.tensor(doubts) >= quantiles[-1])).all()


def test_the_scale_is_that_of_one_step_dreams_after_all_real_frames_before(checkpoint):
    model, episodes = WorldModel.from_pretrained(checkpoint).double(), load_contexts(checkpoint)
    doubts = []
    for row, episode in enumerate(episodes):
        noise = [torch.Generator().manual_seed(row)]
        for t in range(1, len(episode.frames)):
            memory = observe_episodes(model, [episode.cut(0, t)])
            action = torch.from_numpy(episode.actions[t - 1 : t])
            doubts.append(float(model.imagine(memory, action, noise, 3).doubt))
    assert len(doubts) == sum(range(1, 7))
    scale = measure_scale(model, episodes, 3)
    assert scale.denoise_steps == 3
    torch.testing.assert_close(scale.quantiles, torch.from_numpy(np.quantile(doubts, LEVELS)), **CLOSE)


def test_long_stores_are_measured_in_part(checkpoint, monkeypatch):
    model, episodes = WorldModel.from_pretrained(checkpoint).double(), load_contexts(checkpoint)
    monkeypatch.setattr(doubt, "FRAMES", 13)  # of 27; every second episode has 12
    monkeypatch.setattr(doubt, "DREAMS", 3)
    engine = CountingEngine(model)
    measure_scale(engine, episodes)
    assert engine.rows == [3, 1], "frame 1 of three episodes, and frame 5 of the one that is as long"


def test_a_scale_is_kept_beside_the_weights_until_they_change(checkpoint, tmp_path):
    model = WorldModel.from_pretrained(checkpoint)
    write_scale(checkpoint, model)
    kept = (checkpoint / DOUBT).read_text()
    write_scale(checkpoint, model)
    assert (checkpoint / DOUBT).read_text() == kept
    measured = measure_scale(model, load_contexts(checkpoint))
    shutil.move(checkpoint / CONTEXTS, tmp_path / "contexts")
    found = load_scale(checkpoint, model)
    assert found is not None and torch.equal(found.quantiles, measured.quantiles)
    assert load_scale(checkpoint, model, 3) is None and load_scale(checkpoint, model, 1) is None
    shutil.move(tmp_path / "contexts", checkpoint / CONTEXTS)
    other = load_scale(checkpoint, model, 3)
    assert other is not None and not torch.equal(other.quantiles, measured.quantiles)
    model.save_pretrained(checkpoint)
    assert not (checkpoint / DOUBT).exists()
    again = load_scale(checkpoint, model)
    assert again is not None and torch.equal(again.quantiles, measured.quantiles)


def test_a_checkpoint_without_episodes_has_no_scale(checkpoint):
    shutil.rmtree(checkpoint / CONTEXTS)
    model = WorldModel.from_pretrained(checkpoint)
    write_scale(checkpoint, model)
    assert not (checkpoint / DOUBT).exists() and load_scale(checkpoint, model) is None


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", json.dumps({"format_version": 2})]
    + [
        json.dumps({"format_version": 1, "denoise_steps": 4, "quantiles": quantiles})
        for quantiles in ([1.0] * 100, [*range(100), 5], [*range(100), float("nan")], "high", ["high"] * 101, None)
    ],
)
def test_a_broken_scale_is_named(checkpoint, text):
    (checkpoint / DOUBT).write_text(text)
    with pytest.raises(ValueError, match=r"doubt\.json is broken \(.*\); remove it, and doubt is measured anew"):
        load_scale(checkpoint, WorldModel.from_pretrained(checkpoint))


def test_what_cannot_be_measured_is_said(checkpoint):
    model = WorldModel.from_pretrained(checkpoint)
    with pytest.raises(ValueError, match="With 1 denoise_steps there is no doubt to measure; use at least 2."):
        measure_scale(model, load_contexts(checkpoint), 1)


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ASSETS.glob("*/config.json")))
def test_shipped_scales_are_those_of_the_shipped_models(name):
    model = load_world_model(name)
    kept, measured = load_scale(name, model), measure_scale(model, load_contexts(name))
    assert (ASSETS / name / DOUBT).is_file() and kept is not None
    middle = slice(5, 96)  # a single frame may take another turn where sums are rounded otherwise
    torch.testing.assert_close(kept.quantiles[middle], measured.quantiles[middle], rtol=0.02, atol=0)


def test_what_was_seen_before_is_doubted_less():
    torch.set_num_threads(1)
    engine, rows, frames = load_engine("maze-memory"), 16, 40
    contexts: EpisodeStore = load_contexts("maze-memory")
    episodes = [contexts.read(4 * i, 0, frames) for i in range(rows)]
    images = torch.from_numpy(np.stack([e.frames for e in episodes]))
    actions = torch.from_numpy(np.stack([np.concatenate([[0], e.actions]) for e in episodes]))
    poses = torch.from_numpy(np.stack([e.vectors for e in episodes if e.vectors is not None]))
    memory, means = engine.model.initial_memory(rows), []
    for _ in range(2):  # the same way, for the first time and again
        noise, doubts = generators(rows), []
        for t in range(frames):
            if t:
                doubts.append(engine.imagine(memory, actions[:, t], noise).doubt)
            now = slice(t, t + 1)
            memory, _ = engine.observe(memory, images[:, now], actions[:, now], poses[:, now])
        means.append(torch.stack(doubts).mean(dim=0))
    first, again = means
    assert (first > again).sum() >= 13, "in 15 of the 16 mazes when this was written"
    assert first.mean() > 1.03 * again.mean()
