"""Reservoir and fast weights inside the dream kernel: what they recall, tell and write is what PyTorch's do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_rl.model.fast_weights import FastWeightsConfig
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.native_engine import NativeEngine, bf16_products
from lssvwm_rl.model.reservoir import ReservoirConfig
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.native.library import load_kernels
from lssvwm_rl.spaces import space_from_json, space_to_json
from support.small_models import (
    BACKBONE,
    CLOSE,
    SMALL_RESERVOIR,
    assert_memories_close,
    double_model,
    random_clip,
    small_model,
)

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="there is no compiler here, so there are no kernels")
BOTH = {"fast_weights": FastWeightsConfig(size=16, values=6), "reservoir": SMALL_RESERVOIR}
SPACES = {
    "discrete": spaces.Discrete(4, start=2),
    "many": spaces.Discrete(100, start=-3),
    "multi_discrete": spaces.MultiDiscrete([3, 4], start=[1, 0]),
    "box": spaces.Box(-2, 3, (2,)),
}


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def noise(rows: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(100 * seed + i) for i in range(rows)]


def actions(model: WorldModel, rows: int, seed: int = 0) -> torch.Tensor:
    space = space_from_json(model.config.action_space)
    space.seed(seed)
    return torch.as_tensor(np.stack([space.sample() for _ in range(rows)]))


def seen(model: WorldModel, rows: int) -> Memory:
    """Rows that have seen the same five frames twice, so that what follows is known; but for the first, that has seen
    nothing."""
    frames, _, vectors = random_clip(model, rows, 5)
    taken = torch.stack([actions(model, rows, seed=t) for t in range(5)], dim=1)
    memory = model.initial_memory(rows)
    for _ in range(2):
        memory, _ = model.observe(memory, frames, taken, vectors)
    return memory.where(torch.arange(rows) > 0, model.initial_memory(rows))


def assert_same(a: Memory, b: Memory):
    for name, tensor in a.tensors().items():
        assert torch.equal(tensor, b.tensors()[name]), name


def assert_all_agree(model: WorldModel, rows: int = 3, denoise_steps: int = 2):
    """Two dreamt frames and a real one, each from the memory before it."""
    engine, memory = NativeEngine(model), seen(model, rows)
    kept = memory.clone()
    for t in range(2):
        action, drawn = actions(model, rows, seed=t), engine.draw(noise(rows, t))
        ours, theirs = (each.imagine(memory, action, drawn, denoise_steps) for each in (engine, model))
        assert (ours.frame.int() - theirs.frame.int()).abs().max() <= 1
        torch.testing.assert_close(ours.reward, theirs.reward, **CLOSE)
        assert_memories_close(ours.memory, theirs.memory, **CLOSE)
        assert torch.equal(engine.denoise(memory, action, drawn, denoise_steps), ours.frame)
        frames, _, vectors = random_clip(model, rows, 1)
        real = [each.observe(memory, frames, action[:, None], vectors) for each in (engine, model)]
        assert_memories_close(real[0][0], real[1][0], **CLOSE)
        torch.testing.assert_close(real[0][1].features, real[1][1].features, **CLOSE)
        assert_same(memory, kept)
        memory = ours.memory
        kept = memory.clone()


@pytest.mark.parametrize("vector_size", [0, 3])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("parts", [BOTH, {"fast_weights": BOTH["fast_weights"]}], ids=["both", "fast_weights"])
def test_frames_and_memories_are_those_of_the_model(parts, space, vector_size):
    model = double_model(**parts, vector_size=vector_size, action_space=space_to_json(SPACES[space]))
    assert_all_agree(model)


@settings(max_examples=25, deadline=None)
@given(
    size=st.sampled_from([2, 6, 18, 64]),
    values=st.sampled_from([1, 5, 12, 40]),
    vector_size=st.sampled_from([0, 2]),
    grid=st.sampled_from([(1, 1), (2, 4), (4, 2), (4, 4)]),
    side=st.sampled_from([1, 2, 4]),
    reads=st.sampled_from([0, 1, 7]),
    rows=st.integers(1, 4),
    steps=st.integers(1, 4),
)
def test_any_sizes(size, values, vector_size, grid, side, reads, rows, steps):
    reservoir = ReservoirConfig(blocks=(side, 1), width=10, heads=2, head_size=5, reads=reads) if reads else None
    model = double_model(
        fast_weights=FastWeightsConfig(size=size, values=values),
        reservoir=reservoir or ReservoirConfig(),
        grid=grid,
        frame_shape=(8, 8, 1),
        vector_size=vector_size,
        backbone=replace(BACKBONE, blocks=(1, 1)),
    )
    assert_all_agree(model, rows, steps)


def test_a_dreamt_frame_is_taken_for_what_is_recalled_as_by_the_model():
    """What is known already, dreamt with hardly any noise to denoise, and by two kinds of keys."""
    model = double_model(**BOTH, vector_size=2)
    engine, memory = NativeEngine(model), seen(model, 3)
    frames, _, vectors = random_clip(model, 3, 5)
    action, drawn = actions(model, 3), engine.draw(noise(3))
    ours = engine.imagine(memory, action, drawn, vector=vectors[:, 2])
    assert_memories_close(ours.memory, model.imagine(memory, action, drawn, vector=vectors[:, 2]).memory, **CLOSE)
    real, _ = engine.observe(memory, ours.frame[:, None], action[:, None], vectors[:, 2:3])
    moved = (real.fast_weights[0] - ours.memory.fast_weights[0]).norm(dim=1)
    assert moved[0] == 0 and (moved[1:] > 0.1).all()  # of the first row nothing is known


@pytest.mark.parametrize("bf16", [False, pytest.param(True, marks=pytest.mark.skipif(
    not bf16_products(), reason="the processor or the compiler has no AVX512_BF16"))])  # fmt: skip
def test_a_row_depends_on_neither_its_neighbours_nor_the_number_of_threads(threads, bf16):
    model = small_model(**BOTH)
    engine, memory, action, drawn = NativeEngine(model, bf16), seen(model, 7), actions(model, 7), noise(7)
    threads(1)
    batch = engine.imagine(memory, action, noise(7))
    for count in (2, 3, 8):
        threads(count)
        again = engine.imagine(memory, action, noise(7))
        assert torch.equal(again.frame, batch.frame) and torch.equal(again.reward, batch.reward)
        assert_same(again.memory, batch.memory)
    for row in (0, 3, 6):
        index = torch.tensor([row])
        alone = engine.imagine(memory.select(index), action[index], drawn[row : row + 1])
        assert torch.equal(alone.frame[0], batch.frame[row])
        assert_same(alone.memory, batch.memory.select(index))


def test_what_vectors_recall_depends_on_neither_neighbours_nor_threads(threads):
    """Of real frames: what is written of dreamt ones depends on modulations, which PyTorch computes from vectors."""
    model = small_model(**BOTH, vector_size=2)
    engine, memory, (frames, taken, vectors) = NativeEngine(model), seen(model, 7), random_clip(model, 7, 1)
    threads(1)
    batch, _ = engine.observe(memory, frames, taken, vectors)
    for count in (2, 3, 8):
        threads(count)
        again, _ = engine.observe(memory, frames, taken, vectors)
        assert all(map(torch.equal, again.fast_weights, batch.fast_weights))
    for row in (0, 3, 6):
        own = slice(row, row + 1)
        alone, _ = engine.observe(memory.select(torch.tensor([row])), frames[own], taken[own], vectors[own])
        assert all(torch.equal(a[0], b[row]) for a, b in zip(alone.fast_weights, batch.fast_weights, strict=True))


def test_in_single_precision_it_is_close():
    model = small_model(**BOTH)
    frames, taken, _ = random_clip(model, 3, 4)
    memory, _ = model.observe(model.initial_memory(3), frames[:, :3], taken[:, :3])
    ours, theirs = (each.observe(memory, frames[:, 3:], taken[:, 3:])[0] for each in (NativeEngine(model), model))
    for name in ("fast_weights.0", "fast_weights.1", "fast_weights.2"):
        torch.testing.assert_close(ours.tensors()[name], theirs.tensors()[name], rtol=1e-4, atol=1e-4)


def test_memories_that_are_views_are_read_as_they_are():
    model = double_model(**BOTH)
    engine, memory, action = NativeEngine(model), seen(model, 4), actions(model, 4)
    strided = Memory.from_tensors({k: torch.stack([t, t], -1)[..., 0] for k, t in memory.tensors().items()})
    assert not any(t.is_contiguous() for t in strided.fast_weights)
    assert_same(engine.imagine(strided, action, noise(4)).memory, engine.imagine(memory, action, noise(4)).memory)
    with pytest.raises(ValueError, match="other sizes than the model's"):
        engine.imagine(replace(memory, features=memory.features[:, :-1]), action, noise(4))


@pytest.mark.parametrize("vector_size", [0, 2])
def test_actions_that_are_not_in_the_space_are_refused(vector_size):
    model = small_model(**BOTH, vector_size=vector_size)
    memory = seen(model, 2)
    for wrong in (-1, 4, 10**9):
        with pytest.raises((ValueError, IndexError)):
            NativeEngine(model).imagine(memory, torch.tensor([0, wrong]), noise(2))
