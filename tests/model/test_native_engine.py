"""Engines "native" and "native-bf16": what they promise beyond the others, and sizes that no kernel was made for."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_rl.model.engine import make_engine
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.native_engine import NativeEngine, bf16_products, native_takes
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.native.library import Kernels, load_kernels
from support.small_models import (
    BACKBONE,
    CLOSE,
    LAYOUTS,
    assert_memories_close,
    double_model,
    random_clip,
    small_model,
)

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="there is no compiler here, so there are no kernels")
needs_bf16 = pytest.mark.skipif(not bf16_products(), reason="the processor or the compiler has no AVX512_BF16")
both = pytest.mark.parametrize("bf16", [False, pytest.param(True, marks=needs_bf16)])


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def noise(rows: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(rows)]


def seen(model: WorldModel, rows: int, frames: int) -> Memory:
    """A memory in which every row has seen other frames."""
    return model.observe(model.initial_memory(rows), *random_clip(model, rows, frames))[0]


def assert_same(a: Memory, b: Memory):
    for name, tensor in a.tensors().items():
        assert torch.equal(tensor, b.tensors()[name]), name


@both
@pytest.mark.parametrize("count", [2, 3, 8])
def test_frames_do_not_depend_on_the_number_of_threads(threads, count, bf16):
    model = small_model()
    engine, memory, action = NativeEngine(model, bf16), seen(model, 5, 2), torch.arange(5) % 4
    threads(1)
    alone = engine.imagine(memory, action, noise(5))
    threads(count)
    together = engine.imagine(memory, action, noise(5))
    assert torch.equal(alone.frame, together.frame) and torch.equal(alone.reward, together.reward)
    assert torch.equal(alone.doubt, together.doubt)
    assert_same(alone.memory, together.memory)


@both
def test_a_row_does_not_depend_on_its_neighbours(bf16):
    model = small_model()
    engine, memory, action = NativeEngine(model, bf16), seen(model, 7, 4), torch.arange(7) % 4
    batch = engine.imagine(memory, action, noise(7))
    for row in (0, 3, 6):
        index = torch.tensor([row])
        alone = engine.imagine(memory.select(index), action[index], noise(7)[row : row + 1])
        assert torch.equal(alone.frame[0], batch.frame[row]) and torch.equal(alone.reward[0], batch.reward[row])
        assert torch.equal(alone.doubt[0], batch.doubt[row])
        assert_same(alone.memory, batch.memory.select(index))


@settings(max_examples=25, deadline=None)
@given(
    head_size=st.sampled_from([1, 3, 8, 20, 32]),
    heads=st.integers(1, 3),
    state_size=st.sampled_from([2, 6, 32, 40]),
    attention_size=st.sampled_from([1, 4, 12, 24]),
    window=st.integers(1, 4),
    grid=st.sampled_from([(1, 1), (2, 4), (4, 2), (4, 4)]),
    side=st.sampled_from([1, 2, 4]),
    vector_size=st.sampled_from([0, 2]),
    frames=st.integers(0, 5),
    steps=st.integers(1, 3),
)
def test_any_sizes(head_size, heads, state_size, attention_size, window, grid, side, vector_size, frames, steps):
    # So that every head size divides it; no wider: at 768, engines differ by 1.8e-10.
    least = math.lcm(24, head_size)
    width = least * heads if least * heads <= 96 else least
    backbone = replace(
        BACKBONE, width=width, expand=1, scan_head_size=head_size, state_size=state_size,
        attention_head_size=attention_size, window=window, blocks=(side, 1),
    )  # fmt: skip
    model = double_model(backbone=backbone, grid=grid, frame_shape=(8, 8, 1), vector_size=vector_size)
    memory = seen(model, 3, frames) if frames else model.initial_memory(3)
    action = torch.arange(3)
    ours = NativeEngine(model).imagine(memory, action, noise(3), steps)
    reference = model.imagine(memory, action, noise(3), steps)
    assert (ours.frame.int() - reference.frame.int()).abs().max() <= 1
    torch.testing.assert_close(ours.reward, reference.reward, **CLOSE)
    torch.testing.assert_close(ours.terminated, reference.terminated, **CLOSE)
    torch.testing.assert_close(ours.doubt, reference.doubt, **CLOSE)
    assert_memories_close(ours.memory, reference.memory, **CLOSE)


@pytest.mark.parametrize("vector_size", [0, 3])
def test_one_real_frame_is_observed_as_by_the_model(vector_size):
    model = double_model(vector_size=vector_size)
    memory, (frames, actions, vectors) = seen(model, 3, 2), random_clip(model, 3, 1)
    ours, theirs = (m.observe(memory, frames, actions, vectors) for m in (NativeEngine(model), model))
    assert_memories_close(ours[0], theirs[0], **CLOSE)
    for a, b in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_memories_that_are_views_are_read_as_they_are():
    model = double_model()
    engine, memory, action = NativeEngine(model), seen(model, 4, 3), torch.arange(4)
    backwards = Memory.from_tensors({k: t.flip(0).clone().flip(0)[::2] for k, t in memory.tensors().items()})
    strided = Memory.from_tensors({k: torch.stack([t, t], 1)[:, 0] for k, t in memory.tensors().items()})
    assert not strided.layers[0].state.is_contiguous()
    assert_same(engine.imagine(strided, action, noise(4)).memory, engine.imagine(memory, action, noise(4)).memory)
    assert_same(
        engine.imagine(backwards, action[::2], noise(4)[::2]).memory,
        engine.imagine(memory, action, noise(4)).memory.select(torch.tensor([0, 2])),
    )


def test_what_the_kernels_do_not_know_is_said():
    model = small_model(backbone=replace(BACKBONE, kind="causal", blocks=(4, 4)))
    assert not native_takes(model) and native_takes(small_model())
    assert not native_takes(small_model().to(torch.bfloat16))
    with pytest.raises(ValueError, match="No native kernels for this causal model here; use engine 'torch'."):
        NativeEngine(model)


def test_noise_of_another_number_of_rows_is_refused():
    model = small_model()
    with pytest.raises(ValueError, match="The noise of 2 rows is not that of 3"):
        NativeEngine(model).imagine(model.initial_memory(3), torch.zeros(3, dtype=torch.int64), noise(2))


def test_foreign_memories_noise_and_actions_are_refused_and_not_read():
    model, other = small_model(), small_model(backbone=replace(BACKBONE, state_size=4))
    wider = small_model(backbone=replace(BACKBONE, window=2))
    engine, action = NativeEngine(model), torch.zeros(2, dtype=torch.int64)
    for foreign in (other, wider):
        memory = foreign.initial_memory(2)
        with pytest.raises(ValueError, match="other sizes than the model's"):
            engine.imagine(memory, action, noise(2))
        with pytest.raises(RuntimeError):  # clips, whose layers are computed by other kernels
            engine.observe(memory, *random_clip(model, 2, 5))
    own = model.initial_memory(2)
    with pytest.raises(ValueError, match="does not fit the model; draw it with"):
        engine.imagine(own, action, torch.zeros(2, 4, 4, 5))
    with pytest.raises(ValueError, match="Actions of 3 rows or vectors do not fit a memory of 2"):
        engine.imagine(own, torch.zeros(3, dtype=torch.int64), noise(2))


def test_a_memory_of_another_precision_is_converted():
    model = double_model()
    engine, memory, action = NativeEngine(model), seen(model, 3, 2), torch.arange(3)
    single = Memory.from_tensors({k: t.float() if t.is_floating_point() else t for k, t in memory.tensors().items()})
    ours, exact = (engine.imagine(m, action, noise(3)) for m in (single, memory))
    assert_memories_close(ours.memory, exact.memory, rtol=1e-3, atol=1e-3)


@needs_bf16
@pytest.mark.parametrize("vector_size", [0, 3])
@pytest.mark.parametrize(("kind", "blocks"), [layout for layout in LAYOUTS if layout[0] != "causal"])
def test_a_frame_with_products_in_bf16_is_close(kind, blocks, vector_size):
    model = small_model(backbone=replace(BACKBONE, kind=kind, blocks=blocks), vector_size=vector_size)
    memory, action = seen(model, 6, 1), torch.arange(6) % 4
    exact, ours = NativeEngine(model), make_engine(model, "native-bf16")
    assert (exact.name, ours.name) == ("native", "native-bf16")
    # Measured: 0.2 to 0.5 grey levels on average, and 0.2 to 1.1 % in memories, whose features heads read.
    dreams = [engine.imagine(memory, action, noise(6), 1).frame.double() for engine in (exact, ours)]
    assert 0 < (dreams[0] - dreams[1]).abs().mean() < 1
    observed = [engine.observe(memory, *random_clip(model, 6, 1))[0].tensors() for engine in (exact, ours)]
    for name, expected in observed[0].items():
        error = (observed[1][name].double() - expected.double()).norm()
        assert error <= 0.04 * expected.double().norm(), name


@needs_bf16
def test_a_trained_model_dreams_nearly_the_same_in_bf16():
    model = WorldModel.from_pretrained("minigrid-memory")
    memory, action = model.initial_memory(16), torch.arange(16) % 3
    exact, ours = (
        engine.imagine(memory, action, noise(16)) for engine in (NativeEngine(model), NativeEngine(model, True))
    )
    levels = (ours.frame.int() - exact.frame.int()).abs()
    # Measured with four draws of noise: 0.08 to 0.16 grey levels, and 0.4 to 2.4 % of pixels.
    assert levels.double().mean() < 0.6 and (levels > 1).double().mean() < 0.08


def test_bf16_is_for_fp32_models_on_processors_that_have_it(monkeypatch):
    model = small_model()
    assert make_engine(model).name == "native"
    has = Kernels.has
    monkeypatch.setattr(Kernels, "has", lambda self, name, dtype: dtype != torch.bfloat16 and has(self, name, dtype))
    said = "Engine 'native-bf16' cannot run here, engine 'native' does: Products in bf16 need a processor with"
    with pytest.warns(RuntimeWarning, match=said):
        assert make_engine(model, "native-bf16").name == "native"
    with pytest.raises(ValueError, match="for fp32 models and this one is torch.float64; use engine 'native'"):
        NativeEngine(double_model(), bf16=True)
    with pytest.warns(RuntimeWarning, match="engine 'native' does: Products in bf16 are for fp32 models"):
        assert make_engine(double_model(), "native-bf16").name == "native"
