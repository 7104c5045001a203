"""Norms, gates and GELU as kernels: the same numbers and gradients as PyTorch's, on any number of threads."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lssvwm_rl.model.backbone import modulate
from lssvwm_rl.native.ada_norm import ada_norm, gated_sum
from lssvwm_rl.native.gelu import bias_gelu
from support.gradients import assert_all_close, outputs_and_gradients
from support.small_models import CLOSE

SIZES = [(5, 4, 128), (3, 1, 32), (2, 7, 19), (1, 2, 1)]  # frames, tokens per frame, width


def numbers(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def reference(tokens, mixed, modulation):
    """The middle of wider rows is the share, as in a layer."""
    D = tokens.shape[2]
    parts = modulation[:, None, D:-D].split(D, dim=-1)
    total = tokens if mixed is None else tokens + parts[0] * mixed
    return total, modulate(total, parts[-2], parts[-1])


def fused(kernels):
    def function(tokens, mixed, modulation):
        D = tokens.shape[2]
        return ada_norm(kernels, tokens, mixed, modulation[:, D:-D])

    return function


def inputs(F_, n, D, gated, dtype=torch.float64):
    mixed = numbers(F_, n, D, dtype=dtype, seed=1) if gated else None
    exact = torch.promote_types(dtype, torch.float32)
    return numbers(F_, n, D, dtype=exact), mixed, numbers(F_, (5 if gated else 4) * D, dtype=dtype, seed=2)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_ada_norm_is_the_layer_norm_of_the_gated_sum(kernels, sizes, gated):
    given = inputs(*sizes, gated)
    assert_all_close(outputs_and_gradients(fused(kernels), given), outputs_and_gradients(reference, given), **CLOSE)


@pytest.mark.parametrize("used", [0, 1])
def test_one_output_alone_has_gradients(kernels, used):
    given = inputs(2, 3, 16, True)
    alone = (outputs_and_gradients(lambda *a, f=f: f(*a)[used], given) for f in (fused(kernels), reference))
    assert_all_close(*alone, **CLOSE)


@pytest.mark.parametrize("sizes", SIZES)
def test_gated_sum(kernels, sizes):
    tokens, mixed, modulation = inputs(*sizes, True)

    def ours(tokens, mixed, modulation):
        return gated_sum(kernels, tokens, mixed, modulation[:, -sizes[2] :])

    def expected(tokens, mixed, modulation):
        return tokens + modulation[:, None, -sizes[2] :] * mixed

    given = tokens, mixed, modulation
    assert_all_close(outputs_and_gradients(ours, given), outputs_and_gradients(expected, given), **CLOSE)


@pytest.mark.parametrize("shape", [(130, 96), (1, 5), (2, 3, 33)])
def test_bias_gelu(kernels, shape):
    given = 2 * numbers(*shape), numbers(shape[-1], seed=1)
    ours = outputs_and_gradients(lambda x, b: bias_gelu(kernels, x, b), given)
    expected = outputs_and_gradients(lambda x, b: F.gelu(x + b, approximate="tanh"), given)
    assert_all_close(ours, expected, **CLOSE)


def test_bias_gelu_of_large_numbers_in_fp32(kernels):
    x = torch.tensor([[-1e4, -30.0, -5.0, 0.0, 5.0, 30.0, 1e4]])
    zero = torch.zeros(7)
    ours = outputs_and_gradients(lambda x: bias_gelu(kernels, x, zero), [x])
    assert_all_close(ours, outputs_and_gradients(lambda x: F.gelu(x, approximate="tanh"), [x]), rtol=1e-5, atol=1e-5)


def test_derivatives_are_those_of_differences(kernels):
    given = [None if t is None else t.requires_grad_() for t in inputs(2, 2, 3, True)]
    assert torch.autograd.gradcheck(fused(kernels), given)
    x, bias = numbers(3, 4).requires_grad_(), numbers(4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, b: bias_gelu(kernels, x, b), (x, bias))


def test_bf16_is_rounded_where_it_is_stored(kernels):
    """Sums are in fp32: what is off is the rounding of what goes in and out, 2 ** -9 of the numbers."""
    tokens, mixed, modulation = inputs(4, 4, 64, True, torch.bfloat16)
    ours = outputs_and_gradients(fused(kernels), (tokens, mixed, modulation))
    exact = outputs_and_gradients(reference, (tokens.double(), mixed.double(), modulation.double()))
    assert ours[1].dtype == torch.bfloat16 and ours[0].dtype == torch.float32
    assert_all_close([t.double() for t in ours], exact, rtol=2e-2, atol=5e-2)


def test_results_do_not_depend_on_the_number_of_threads(kernels, threads):
    given = inputs(701, 4, 48, True, torch.float32)
    x, bias = numbers(2000, 40, dtype=torch.float32), numbers(40, dtype=torch.float32, seed=1)
    runs = []
    for count in (1, 3):
        threads(count)
        gelu = outputs_and_gradients(lambda x, b: bias_gelu(kernels, x, b), (x, bias))
        runs.append(outputs_and_gradients(fused(kernels), given) + gelu)
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
