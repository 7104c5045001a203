"""Compiled dreams are the dreams; where nothing can be compiled, a warning says why and the dream goes on."""

from __future__ import annotations

import dataclasses
import logging
import warnings

import pytest
import torch

from lssvwm_rl.model.engine import make_engine
from support.small_models import BACKBONE, CLOSE, assert_memories_close, double_model, random_clip, small_model

ONE_LAYER = dataclasses.replace(BACKBONE, blocks=(2,))


def seen(model):
    frames, actions, _ = random_clip(model, rows=2, frames=3)
    return model.observe(model.initial_memory(2), frames, actions)[0]


def dream(model, memory, denoise_steps=2):
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    return model.imagine(memory, torch.tensor([1, 2]), generators, denoise_steps)


@pytest.fixture
def fresh_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_engine_dreams_alike_in_one_graph_and_says_that_it_compiles(fresh_compiler, caplog):
    model = double_model(backbone=ONE_LAYER)
    engine = make_engine(model, "compiled")
    torch._dynamo.utils.counters.clear()
    memory = seen(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for _ in range(3):  # of which the later ones start from views of what the earlier ones left
            step, reference = dream(engine, memory), dream(model, memory)
            assert torch.equal(step.frame, reference.frame)
            assert_memories_close(step.memory, reference.memory, **CLOSE)
            memory = step.memory
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert said == ["Compiling dreams of 2 rows with 2 denoising steps, which takes a minute or more."]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_without_a_compiler_the_dream_goes_on_and_says_why(fresh_compiler, monkeypatch):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    model = small_model(backbone=dataclasses.replace(ONE_LAYER, kind="window"))
    compiled, plain = make_engine(model, "compiled"), make_engine(model, "torch")
    memory = seen(model)
    with pytest.warns(RuntimeWarning, match="dream is not compiled and runs as it is: .*no-such-compiler"):
        step = dream(compiled, memory, 1)
    assert torch.equal(step.frame, dream(plain, memory, 1).frame)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert torch.equal(dream(compiled, step.memory, 1).frame, dream(plain, step.memory, 1).frame)
