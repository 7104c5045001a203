"""Losses and gradients of whole objectives are the same in PyTorch and on CPU kernels; noise in token space."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from lssvwm_rl.model.config import KINDS
from lssvwm_rl.native.library import Kernels, load_kernels
from lssvwm_rl.training.noise import draw_noise
from lssvwm_rl.training.objective import Objective, ObjectiveConfig
from support.small_models import BACKBONE, CLOSE, random_batch, small_model


def run(
    backend,
    kind="block_ssm",
    name="two_stream",
    recompute=False,
    carried=False,
    bf16=False,
    dtype=torch.float64,
    **config,
):
    """Losses, the memory after the clip, and gradients."""
    model = small_model(backbone=dataclasses.replace(BACKBONE, kind=kind, backend=backend), **config).to(dtype)
    batch, memory = random_batch(model, [8, 5], 8), None
    if carried:  # one row goes on after two frames, fewer than the window; one begins
        before = random_batch(model, [2, 2], 2, seed=3)
        memory, _ = model.observe(model.initial_memory(2), before.frames, before.actions, before.vectors)
        memory = model.initial_memory(2).where(torch.tensor([True, False]), memory)
    objective = Objective(model, ObjectiveConfig(name=name, tau_floor=0.3), recompute)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        losses, after, _ = objective(batch, memory, torch.Generator().manual_seed(0))
    losses["total"].backward()
    found = {name: value.detach() for name, value in losses.items()}
    found |= {} if after is None else after.tensors()
    return found | {f"gradient of {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["two_stream", "prefix"])
@pytest.mark.parametrize("settings", [{}, {"recompute": True, "carried": True, "vector_size": 2}], ids=["plain", "all"])
def test_kernels_train_as_pytorch_does(kind, name, settings):
    ours, expected = (run(backend, kind, name, **settings) for backend in ("native", "torch"))
    assert ours.keys() == expected.keys()
    for what, value in expected.items():
        torch.testing.assert_close(ours[what], value, **CLOSE, msg=lambda m, what=what: f"{what}: {m}")


@pytest.mark.parametrize("settings", [{"token_noise": True}, {"shortcut": True}], ids=str)
def test_kernels_train_with_either_noise(settings):
    ours, expected = (run(backend, **settings) for backend in ("native", "torch"))
    assert ours.keys() == expected.keys()
    for what, value in expected.items():
        torch.testing.assert_close(ours[what], value, **CLOSE, msg=lambda m, what=what: f"{what}: {m}")


def test_under_mixed_precision_gradients_are_no_further_off_than_pytorchs():
    """Both round products to bf16; kernels round less between them."""

    def gradient(*args, **settings):
        found = run(*args, **settings)
        return torch.cat([t.double().flatten() for name, t in found.items() if name.startswith("gradient of")])

    exact = gradient("torch")
    ours, theirs = (gradient(b, dtype=torch.float32, bf16=True) for b in ("native", "torch"))
    assert (ours - exact).norm() < 1.25 * (theirs - exact).norm() < exact.norm()


@pytest.mark.skipif(load_kernels() is None, reason="there is no C++ compiler")
def test_kernels_are_what_trains(monkeypatch):
    used, call = set(), Kernels.__call__
    monkeypatch.setattr(Kernels, "__call__", lambda self, name, *given: used.add(name) or call(self, name, *given))
    run("native")
    assert used >= {"ada_norm_backward", "gated_sum_backward", "bias_gelu_backward", "attention_backward"}
    assert used >= {"pixel_error_backward", "cut_patches", "count_colours"}
    used.clear()
    run("torch")
    assert used == set()


@pytest.mark.parametrize("grid", [(2, 2), (8, 8)], ids=["more pixels than width", "fewer pixels than width"])
def test_noise_in_token_space_has_the_covariance_of_embedded_pixel_noise(grid):
    model = small_model(grid=grid, token_noise=True).double()
    with torch.no_grad():
        model.position.zero_()
    factor, weight = model.noise_factor(), model.patch_in.weight
    assert factor.shape == (min(weight.shape), 32)
    expected = weight @ weight.t()
    torch.testing.assert_close(
        factor.t() @ factor, expected, rtol=1e-8, atol=1e-8 * float(expected.detach().abs().max())
    )
    noise, tokens = draw_noise(model, (2, 3, *grid, 32), torch.Generator().manual_seed(0))
    assert noise is None and tokens.shape == (2, 3, *grid, 32)
    drawn = torch.randn((2, 3, *grid, len(factor)), generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(tokens, F.linear(drawn, factor.t(), model.patch_in.bias), **CLOSE)
    gradients = torch.autograd.grad(tokens.square().sum(), [weight, model.patch_in.bias])
    assert all(g.abs().sum() > 0 for g in gradients)
    # The mean of the squares over all draws has the gradient of the trace, which is that of the squared weights.
    (trace,) = torch.autograd.grad((model.noise_factor() ** 2).sum(), weight)
    torch.testing.assert_close(trace, 2 * weight.detach(), rtol=1e-6, atol=1e-6)


def test_pixel_noise_is_drawn_as_pixels():
    model = small_model().double()
    noise, tokens = draw_noise(model, (2, 3, 4, 4, 32), torch.Generator().manual_seed(0))
    assert noise is not None and noise.shape == (2, 3, 4, 4, 48)
    torch.testing.assert_close(tokens, model.patch_in(noise), **CLOSE)
