"""Every engine computes what the world model itself computes: frames, rewards, ends and memories of dreams."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lssvwm_rl.model.checkpoints import load_engine
from lssvwm_rl.model.engine import ENGINES, make_engine
from lssvwm_rl.model.fast_weights import FastWeightsConfig
from lssvwm_rl.model.native_engine import native_takes
from lssvwm_rl.native.library import load_kernels
from lssvwm_rl.spaces import space_from_json, space_to_json
from support.small_models import (
    BACKBONE,
    CLOSE,
    LAYOUTS,
    SMALL_RESERVOIR,
    assert_memories_close,
    double_model,
    random_clip,
    small_config,
    small_model,
)


@pytest.fixture(autouse=True)
def one_thread():
    """What is as small as this takes longer on several threads, where others need them, too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


NAMES = ["torch", pytest.param("native", marks=pytest.mark.skipif(load_kernels() is None, reason="no compiler here"))]
WITHOUT_CAUSAL = [layout for layout in LAYOUTS if layout[0] != "causal"]
SPACES = [spaces.Discrete(4, start=2), spaces.Discrete(100), spaces.MultiDiscrete([3, 4]), spaces.Box(-2, 3, (2,))]
VARIANTS = {
    "token_noise": {"token_noise": True},
    "token_noise_of_small_patches": {"token_noise": True, "grid": (4, 4), "frame_shape": (8, 8, 3)},
    "shortcut": {"shortcut": True},
    "vectors": {"vector_size": 2},
    "oblong": {"grid": (4, 2), "backbone": replace(BACKBONE, blocks=(1, 2, 4))},
    "padded": {"frame_shape": (13, 9, 3)},
    "padded_with_all": {
        "frame_shape": (7, 15, 1),
        "reservoir": SMALL_RESERVOIR,
        "fast_weights": FastWeightsConfig(size=16, values=6),
    },
    "reservoir": {"reservoir": SMALL_RESERVOIR},
    "reservoir_beside_vectors": {"reservoir": SMALL_RESERVOIR, "vector_size": 2},
    "window_of_one": {"backbone": replace(BACKBONE, window=1)},
    "other_heads": {"backbone": replace(BACKBONE, scan_head_size=32, state_size=32, attention_head_size=8)},
    **{space_to_json(space)["type"] + str(i): {"action_space": space_to_json(space)} for i, space in enumerate(SPACES)},
}


def generators(rows: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(100 * seed + i) for i in range(rows)]


def random_actions(model, rows: int, seed: int = 0) -> torch.Tensor:
    space = space_from_json(model.config.action_space)
    space.seed(seed)
    return torch.as_tensor(np.stack([space.sample() for _ in range(rows)]))


def assert_steps_close(ours, theirs):
    assert (ours.frame.int() - theirs.frame.int()).abs().max() <= 1
    torch.testing.assert_close(ours.rewards, theirs.rewards, **CLOSE)
    torch.testing.assert_close(ours.terminated, theirs.terminated, **CLOSE)
    torch.testing.assert_close(ours.doubt, theirs.doubt, **CLOSE)
    torch.testing.assert_close(ours.vector, theirs.vector, **CLOSE)
    assert_memories_close(ours.memory, theirs.memory, **CLOSE)


def assert_dreams_close(engine, steps: int = 2, denoise_steps: int = 2, rows: int = 3, vectors: bool = False):
    """From nothing, through part-filled windows, each step from the same memory: a rounded pixel goes no further."""
    model = engine.model
    memory = model.initial_memory(rows)
    for t in range(steps):
        action, noise = random_actions(model, rows, seed=t), engine.draw(generators(rows, seed=t))
        vector = torch.randn(rows, model.config.vector_size, generator=generators(1, t)[0]) if vectors else None
        vector = None if vector is None else vector.to(model.dtype)
        expected = model.imagine(memory, action, noise, denoise_steps, vector)
        step = engine.imagine(memory, action, noise, denoise_steps, vector)
        assert_steps_close(step, expected)
        assert torch.equal(engine.denoise(memory, action, noise, denoise_steps, vector), step.frame)
        memory = step.memory


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("vector_size", [0, 3])
@pytest.mark.parametrize(("kind", "blocks"), LAYOUTS)
def test_an_engine_dreams_as_the_model_does(name, kind, blocks, vector_size):
    model = double_model(backbone=replace(BACKBONE, kind=kind, blocks=blocks), vector_size=vector_size)
    if name == "native" and not native_takes(model):
        pytest.skip("the kernels know no causal models")
    assert_dreams_close(make_engine(model, name), steps=4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_engine_dreams_as_every_variant_does(name, variant):
    model = double_model(**VARIANTS[variant])
    assert_dreams_close(make_engine(model, name), vectors=variant == "vectors")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("denoise_steps", [1, 2, 4])
@pytest.mark.parametrize("shortcut", [False, True])
def test_an_engine_takes_any_number_of_denoising_steps(name, denoise_steps, shortcut):
    engine = make_engine(double_model(shortcut=shortcut), name)
    assert_dreams_close(engine, denoise_steps=denoise_steps)
    with pytest.raises(ValueError, match="denoise_steps must be at least 1, got 0"):
        engine.imagine(engine.model.initial_memory(1), torch.tensor([1]), generators(1), denoise_steps=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("changes", [{}, {"vector_size": 2}, {"reservoir": SMALL_RESERVOIR}])
def test_an_engine_goes_on_from_what_was_observed(name, changes):
    engine = make_engine(double_model(**changes), name)
    model = engine.model
    frames, actions, vectors = random_clip(model, rows=3, frames=5)
    memory, expected = model.initial_memory(3), model.initial_memory(3)
    for now in (slice(0, 3), slice(3, 4), slice(4, 5)):  # a single frame may take another way
        given = None if vectors is None else vectors[:, now]
        memory, prediction = engine.observe(memory, frames[:, now], actions[:, now], given)
        expected, predicted = model.observe(expected, frames[:, now], actions[:, now], given)
        for ours, theirs in zip(prediction, predicted, strict=True):
            torch.testing.assert_close(ours, theirs, **CLOSE)
    assert_memories_close(memory, expected, **CLOSE)
    # Copies of rows and chosen rows, whose tensors have other strides, go on as the rows would.
    forked = memory.repeat(2).select(torch.tensor([5, 0, 3]))
    action, noise = torch.tensor([1, 0, 2]), engine.draw(generators(3))
    assert_steps_close(engine.imagine(forked, action, noise), model.imagine(forked, action, noise))
    with pytest.raises(ValueError, match="do not agree"):
        engine.observe(memory, frames[:2, :1], actions[:2, :1], None)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_call_has_the_same_bits_and_leaves_the_memory_as_it_is(name):
    engine = make_engine(small_model(), name)
    frames, actions, _ = random_clip(engine.model, rows=2, frames=3)
    memory, _ = engine.observe(engine.model.initial_memory(2), frames, actions)
    kept = memory.clone()
    first, second = (engine.imagine(memory, torch.tensor([1, 2]), generators(2)) for _ in range(2))
    assert torch.equal(first.frame, second.frame) and torch.equal(first.reward, second.reward)
    assert_memories_close(first.memory, second.memory, rtol=0, atol=0)
    assert_memories_close(memory, kept, rtol=0, atol=0)
    again = engine.imagine(first.memory, torch.tensor([1, 2]), generators(2))
    assert_memories_close(first.memory, second.memory, rtol=0, atol=0)
    assert not torch.equal(again.memory.features, first.memory.features)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_dreams_alone_as_beside_others(name):
    engine = make_engine(double_model(), name)
    frames, actions, _ = random_clip(engine.model, rows=3, frames=4)
    memory, _ = engine.observe(engine.model.initial_memory(3), frames, actions)
    action, noise = torch.tensor([1, 2, 3]), engine.draw(generators(3))
    together = engine.imagine(memory, action, noise)
    alone = engine.imagine(memory.select(torch.tensor([1])), action[1:2], noise[1:2])
    assert (together.frame[1:2].int() - alone.frame.int()).abs().max() <= 1
    assert_memories_close(together.memory.select(torch.tensor([1])), alone.memory, **CLOSE)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("observe"), st.integers(1, 3)),
        st.tuples(st.just("imagine"), st.integers(1, 2)),
        st.tuples(st.just("fork"), st.integers(2, 3)),
        st.tuples(st.just("select"), st.integers(0, 1_000)),
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
@given(path=STEPS)
def test_any_path_of_steps_leads_to_the_memory_of_the_model(name, path):
    model = double_model(backbone=replace(BACKBONE, blocks=(1, 2), window=2), vector_size=1)
    engine = make_engine(model, name)
    memory, random = model.initial_memory(1), np.random.default_rng(len(path))
    for t, (what, number) in enumerate(path):
        rows = memory.batch_size
        if what == "fork":
            memory = memory.repeat(number) if rows * number <= 6 else memory
        elif what == "select":
            memory = memory.select(torch.as_tensor(np.random.default_rng(number).integers(0, rows, rows)))
        elif what == "observe":
            frames = torch.as_tensor(random.integers(0, 256, (rows, number, 16, 16, 3), dtype=np.uint8))
            actions = torch.as_tensor(random.integers(0, 4, (rows, number)))
            expected, _ = model.observe(memory, frames, actions)
            memory, _ = engine.observe(memory, frames, actions)
            assert_memories_close(memory, expected, **CLOSE)
        else:
            action, noise = torch.as_tensor(random.integers(0, 4, rows)), engine.draw(generators(rows, t))
            step = engine.imagine(memory, action, noise, number)
            assert_steps_close(step, model.imagine(memory, action, noise, number))
            memory = step.memory


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_checkpoint_dreams_as_its_model_in_single_precision(name):
    engine = load_engine("minigrid-memory", engine=name)
    assert engine.name == name
    model, memory = engine.model, engine.model.initial_memory(2)
    action, noise = torch.tensor([2, 2]), engine.draw(generators(2))
    ours, theirs = engine.imagine(memory, action, noise), model.imagine(memory, action, noise)
    assert (ours.frame.int() - theirs.frame.int()).abs().max() <= 1
    torch.testing.assert_close(ours.terminated, theirs.terminated, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_named(name):
    engine = make_engine(small_model(), name)
    memory = engine.model.initial_memory(2)
    with pytest.raises(ValueError, match="The noise of 1 rows is not that of 2"):
        engine.imagine(memory, torch.tensor([0, 1]), generators(1))
    memory = replace(memory, frames=memory.frames + 1)
    for wrong in (-1, 4):
        with pytest.raises(ValueError, match=f"Action {wrong} is not in Discrete.4, start=0"):
            engine.imagine(memory, torch.tensor([0, wrong]), generators(2))


def test_engines_are_chosen_by_name_and_what_cannot_run_is_replaced(monkeypatch, caplog):
    model = small_model(backbone=replace(BACKBONE, blocks=(2,)))
    with pytest.raises(ValueError, match="Engine 'fast' is unknown; use one of auto, torch, compiled, native"):
        make_engine(model, "fast")
    with caplog.at_level(logging.INFO, "lssvwm_rl"):
        assert make_engine(model).name == ("torch" if load_kernels() is None else "native")
    assert "dreams on cpu" in caplog.text
    causal = small_model(backbone=replace(BACKBONE, kind="causal"))
    assert make_engine(causal).name == "torch"
    assert set(ENGINES) == {"auto", "torch", "compiled", "native", "native-bf16"}
    for name in set(ENGINES) - {"auto", "torch"}:
        with pytest.warns(RuntimeWarning, match=f"Engine '{name}' cannot run here, engine 'torch' does: "):
            assert make_engine(causal, name).name == "torch"
    monkeypatch.setattr("lssvwm_rl.model.engine.load_kernels", lambda: None)
    monkeypatch.setattr("lssvwm_rl.model.native_engine.load_kernels", lambda: None)
    assert make_engine(model).name == "torch"
    with pytest.warns(RuntimeWarning, match="cannot run here"):
        assert make_engine(model, "native").name == "torch"


def test_token_noise_has_the_distribution_of_embedded_pixel_noise():
    for changes in ({"grid": (2, 2)}, {"grid": (4, 4), "frame_shape": (8, 8, 3)}):
        model = double_model(token_noise=True, **changes)
        factor, weight = model.noise_factor(), model.patch_in.weight
        assert factor.shape == (min(weight.shape), weight.shape[0])
        torch.testing.assert_close(factor.t() @ factor, weight @ weight.t(), rtol=1e-6, atol=1e-6)
        assert torch.autograd.grad(factor.sum(), weight)[0].abs().sum() > 0
    # With no more pixels than a token has numbers it is the same noise.
    few = {"grid": (4, 4), "frame_shape": (8, 8, 3)}
    pixels, tokens = double_model(**few), double_model(token_noise=True, **few)
    memory, action = pixels.initial_memory(2), torch.tensor([0, 1])
    same = [model.imagine(memory, action, generators(2)) for model in (pixels, tokens)]
    assert_steps_close(*same)


def test_a_config_without_token_noise_is_as_it_was():
    config = small_config()
    assert "token_noise" not in config.to_json() and not type(config).from_json(config.to_json()).token_noise
    assert type(config).from_json(small_config(token_noise=True).to_json()).token_noise
    with pytest.raises(ValueError, match="Shortcut training needs the noise of pixels"):
        small_config(token_noise=True, shortcut=True)
