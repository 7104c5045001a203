"""Compiled dreams are the dreams; where nothing can be compiled, a warning says why and the dream goes on."""

from __future__ import annotations

import copy
import dataclasses
import warnings

import pytest
import torch

from lssvwm_rl.model.compiled import compile_dreaming
from support.small_models import BACKBONE, CLOSE, double_model, random_batch, small_model

ONE_LAYER = dataclasses.replace(BACKBONE, blocks=(2,))


def dream(model):
    batch = random_batch(model, [3], 3)
    memory, _ = model.observe(model.initial_memory(1), batch.frames, batch.actions)
    return model.imagine(memory, torch.tensor([1]), [torch.Generator().manual_seed(0)], denoise_steps=2)


@pytest.fixture
def fresh_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_dreams_alike(fresh_compiler):
    plain, compiled = double_model(backbone=ONE_LAYER), double_model(backbone=ONE_LAYER)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        step, reference = dream(compile_dreaming(compiled)), dream(plain)
    assert torch.equal(step.frame, reference.frame)
    for name, tensor in step.memory.tensors().items():
        torch.testing.assert_close(tensor, reference.memory.tensors()[name], **CLOSE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:commit is not compiled")
def test_without_a_compiler_the_dream_goes_on_and_says_why(fresh_compiler, monkeypatch):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    model = small_model(backbone=ONE_LAYER)
    reference = dream(model)
    with pytest.warns(RuntimeWarning, match="denoise is not compiled and runs as it is: .*no-such-compiler"):
        step = dream(compile_dreaming(model))
    assert torch.equal(step.frame, reference.frame)


def test_a_causal_model_is_not_compiled_and_a_copy_dreams_with_its_own_weights():
    causal = small_model(backbone=dataclasses.replace(ONE_LAYER, kind="causal"))
    with pytest.warns(RuntimeWarning, match="grows with every frame"):
        assert compile_dreaming(causal).compiled is None
    model = small_model(backbone=ONE_LAYER)
    model.compiled = (type(model).denoise, type(model).commit)
    other = copy.deepcopy(model)
    torch.nn.init.normal_(other.patch_out.weight)
    other.compiled, plain = copy.deepcopy(other).compiled, copy.deepcopy(other)
    plain.compiled = None
    assert torch.equal(dream(other).frame, dream(plain).frame)
    assert not torch.equal(dream(other).frame, dream(model).frame)
