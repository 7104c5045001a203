"""Window attention as a kernel: the same numbers and gradients as `FrameLocalAttention` in PyTorch."""

from __future__ import annotations

import pytest
import torch

from lssvwm_rl.model.attention.local import FrameLocalAttention
from lssvwm_rl.native.attention import Window, window_attention
from support.gradients import assert_all_close
from support.small_models import CLOSE, awake

# grid, heads, head size, window
SIZES = [((2, 2), 4, 32, 4), ((3, 3), 2, 64, 3), ((2, 3), 3, 5, 2), ((1, 1), 1, 16, 5), ((2, 4), 2, 16, 1)]


def attention(backend, grid, heads, head_size, window, dtype=torch.float64):
    torch.manual_seed(0)
    module = awake(FrameLocalAttention(heads * head_size, grid, head_size, window, backend)).to(dtype)
    return module


def given(module, B, T, S, grid, dtype=torch.float64):
    g = torch.Generator().manual_seed(1)
    width = module.heads * module.head_size
    tokens = torch.randn(B, T, S, *grid, width, generator=g, dtype=torch.float64).to(dtype)
    cache = tuple(torch.randn(t.shape, generator=g, dtype=torch.float64).to(dtype) for t in module.initial_cache(B))
    return tokens, cache


def run(module, tokens, cache, frames, through_cache=True, kernels=None):
    """Outputs, the new cache, and gradients of tokens and weights; by the kernels given, also of one frame."""
    tokens = tokens.clone().requires_grad_()
    y, after = module._native(kernels, tokens, cache, frames) if kernels else module(tokens, cache, None, frames)
    g = torch.Generator().manual_seed(2)
    outputs = [y, *after] if through_cache else [y]
    total = sum((o * torch.randn(o.shape, generator=g, dtype=torch.float64).to(o.dtype)).sum() for o in outputs)
    gradients = torch.autograd.grad(total, [tokens, *module.parameters()])
    return [o.detach() for o in (y, *after)] + list(gradients)


@pytest.mark.parametrize("T", [1, 2, 7])
@pytest.mark.parametrize("S", [1, 2])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_outputs_cache_and_gradients_are_those_of_pytorch(kernels, sizes, S, T):
    ours, reference = attention("native", *sizes), attention("torch", *sizes)
    tokens, cache = given(ours, 3, T, S, sizes[0])
    frames = torch.tensor([0, 1, 50])  # rows whose cache holds nothing, a part, everything
    by_kernels = run(ours, tokens, cache, frames, kernels=kernels)
    assert_all_close(by_kernels, run(reference, tokens, cache, frames), **CLOSE)


def test_what_lies_before_an_episode_is_not_read(kernels):
    ours = attention("native", (2, 2), 2, 16, 4)
    tokens, cache = given(ours, 2, 3, 2, (2, 2))
    frames = torch.tensor([0, 2])
    hidden = torch.arange(3) < 3 - frames[:, None]  # (B, k-1), oldest first
    broken = tuple(t.masked_fill(hidden[..., None, None, None], float("nan")) for t in cache)
    assert_all_close(run(ours, tokens, broken, frames, False)[3:], run(ours, tokens, cache, frames, False)[3:], **CLOSE)


def test_the_kernel_runs_and_gradients_through_a_cache_are_pytorchs(kernels, monkeypatch):
    ours = attention("native", (2, 2), 2, 16, 3)
    tokens, cache = given(ours, 1, 2, 1, (2, 2))
    calls = []
    monkeypatch.setattr(
        "lssvwm_rl.model.attention.local.window_attention", lambda *a: calls.append(1) or window_attention(*a)
    )
    frames = torch.tensor([5])
    ours(tokens, cache, None, frames)
    assert calls == [1]
    keys = cache[0].clone().requires_grad_()
    y, _ = ours(tokens, (keys, cache[1]), None, frames)
    assert calls == [1] and torch.autograd.grad(y.sum(), keys)[0].abs().sum() > 0


def test_derivatives_are_those_of_differences(kernels):
    module = attention("native", (1, 2), 2, 3, 2)
    g = torch.Generator().manual_seed(0)
    qkv = torch.randn(1, 2, 2, 2, 3, 2, 3, generator=g, dtype=torch.float64, requires_grad=True)
    _, cache = given(module, 1, 1, 1, (1, 2))
    window = Window(*cache, torch.tensor([1]), module.offsets)
    weights = [p.detach().requires_grad_() for p in (module.q_norm.weight, module.k_norm.weight, module.bias)]
    assert torch.autograd.gradcheck(lambda *t: window_attention(kernels, *t, window), (qkv, *weights))


def test_bf16_is_rounded_where_it_is_stored(kernels):
    """Sums are in fp32: what is off is the rounding of what goes in and out, 2 ** -9 of the numbers."""
    module = attention("native", (2, 2), 2, 32, 3, torch.float32)
    g = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, 5, 2, 4, 3, 2, 32, generator=g).bfloat16()
    _, cache = given(module, 2, 1, 1, (2, 2), torch.float32)
    weights = [p.detach() for p in (module.q_norm.weight, module.k_norm.weight, module.bias)]
    window = Window(*cache, torch.tensor([0, 9]), module.offsets)
    exact = Window(cache[0].double(), cache[1].double(), window.frames, window.offsets)

    def gradients(qkv, weights, window):
        leaves = [t.clone().requires_grad_() for t in (qkv, *weights)]
        y = window_attention(kernels, *leaves, window)
        return [y.detach().double()] + [t.double() for t in torch.autograd.grad(y.double().sum(), leaves)]

    rounded, unrounded = gradients(qkv, weights, window), gradients(qkv.double(), [w.double() for w in weights], exact)
    assert_all_close(rounded, unrounded, rtol=2e-2, atol=2e-2)


def test_results_do_not_depend_on_the_number_of_threads(kernels, threads):
    ours = attention("native", (2, 2), 2, 16, 3, torch.float32)
    tokens, cache = given(ours, 3, 70, 2, (2, 2), torch.float32)
    qkv = ours.qkv(tokens).detach().view(3, 70, 2, 4, 3, 2, 16)
    weights = [p.detach() for p in (ours.q_norm.weight, ours.k_norm.weight, ours.bias)]
    window = Window(*cache, torch.tensor([0, 1, 9]), ours.offsets)
    runs = []
    for count in (1, 4):
        threads(count)
        leaves = [t.clone().requires_grad_() for t in (qkv, *weights)]
        y = window_attention(kernels, *leaves, window)
        runs.append([y.detach(), *torch.autograd.grad((y * qkv[:, :, :, :, 0].flatten(4)).sum(), leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
