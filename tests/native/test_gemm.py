"""Products with packed weights (`gemm.h`), called as they are: a few lines of C around them are compiled here."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from lssvwm_rl.native.build import SOURCES
from lssvwm_rl.native.library import PANEL, Kernels, load_kernels

# M, N, K, what to do with the sums; a, bias, c, panels and, of bf16, room for the rounded rows of every thread.
PRODUCT = """
#include "gemm.h"
template <class E, class R, class F> static void in_team(const int64_t* sizes, void* const* p, int64_t K, F&& left) {
  with_team(sizes[0], [&](Team team) {
    linear(team, sizes[1], sizes[2], K, left(team.rank), (const E*)p[3], (const R*)p[1], (R*)p[2], (Then)sizes[4]);
  });
}
template <class R> static void product(const int64_t* sizes, void* const* p) {
  in_team<R, R>(sizes, p, sizes[3], [&](int64_t) { return (const R*)p[0]; });
}
EXPORT_REAL(product)
#if defined(__AVX512BF16__)
extern "C" void product_bf16(const int64_t* sizes, void* const* p) {
  const int64_t M = sizes[1], K = sizes[3];
  in_team<Pair, float>(sizes, p, pair_count(K), [&](int64_t rank) {
    Pair* rounded = (Pair*)p[4] + rank * M * pair_count(K);
    round_rows(M, K, (const float*)p[0], rounded);
    return (const Pair*)rounded;
  });
}
extern "C" void round_bf16(const int64_t* sizes, void* const* p) {
  round_rows(sizes[1], sizes[2], (const float*)p[0], (Pair*)p[1]);
}
#endif
"""
THENS = (lambda x: x, lambda x: gelu(x, approximate="tanh"), silu)
DTYPES = (torch.float64, torch.float32, torch.bfloat16)
# Whole panels and tiles, and what is left over of columns, of rows and of an odd K.
SIZES = [(12, 32, 16), (24, 64, 33), (1, 1, 1), (13, 70, 7), (7, 31, 128), (30, 33, 257), (3, 100, 2)]


@pytest.fixture(scope="module")
def products(kernels, tmp_path_factory) -> Kernels:
    """A library of products alone."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("threads.h", "simd.h", "team.h", "tile.h", "gemm.h"):
        shutil.copy(SOURCES / name, folder)
    (folder / "product.cpp").write_text(PRODUCT)
    loaded = load_kernels(folder)
    if loaded is None:
        pytest.skip("there is no C++ compiler")
    return loaded


@pytest.fixture
def known(products, kernels):
    """Skips what this machine's kernels have no units for."""

    def check(dtype: torch.dtype) -> None:
        assert products.has("product", dtype) == kernels.has("dream", dtype)
        if not products.has("product", dtype):
            pytest.skip("the processor or the compiler has no AVX512_BF16")

    return check


def operands(M: int, N: int, K: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(M + N + K)
    a, weight, bias = (torch.randn(*shape, generator=generator).double() for shape in ((M, K), (N, K), (N,)))
    stored = torch.float32 if dtype == torch.bfloat16 else dtype
    return a.to(stored), weight.to(stored), bias.to(stored)


def multiply(
    products: Kernels, kernels: Kernels, dtype: torch.dtype, a: Tensor, weight: Tensor, bias: Tensor, then: int = 0
) -> Tensor:
    """then(a weight^T + bias), by panels that the model's own library packs."""
    (M, K), N = a.shape, len(weight)
    even = K + K % 2
    panels = torch.zeros(-(-N // PANEL) * PANEL * even, dtype=dtype)
    c, rounded = torch.full((M, N), torch.nan, dtype=a.dtype), torch.zeros(8, M * even, dtype=torch.bfloat16)
    kernels("pack", dtype, [N, K], [weight, panels])
    products("product", dtype, [M, N, K, then], [a, bias, c, panels, rounded])
    return c


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES)
def test_products_are_those_of_fp64(products, kernels, known, dtype, sizes):
    known(dtype)
    a, weight, bias = operands(*sizes, dtype)
    # What is rounded is the operands alone: their sums have the error of the type that sums.
    exact, summed = (a.to(dtype).double(), weight.to(dtype).double(), bias.double()), a.dtype
    sums = exact[0] @ exact[1].t() + exact[2]
    scale = exact[0].abs() @ exact[1].t().abs() + exact[2].abs()  # what errors of sums are proportional to
    for then, function in enumerate(THENS):
        error = (multiply(products, kernels, dtype, a, weight, bias, then).double() - function(sums)).abs()
        assert (error <= 8 * torch.finfo(summed).eps * (1 + scale)).all(), function


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_depends_neither_on_its_neighbours_nor_on_threads(products, kernels, known, threads, dtype):
    known(dtype)
    a, weight, bias = operands(31, 150, 77, dtype)
    threads(1)
    whole = multiply(products, kernels, dtype, a, weight, bias, 1)
    for count in (2, 3, 8):
        threads(count)
        assert torch.equal(multiply(products, kernels, dtype, a, weight, bias, 1), whole)
    threads(1)
    for rows in (slice(0, 1), slice(5, 7), slice(11, 31), slice(30, 31)):
        assert torch.equal(multiply(products, kernels, dtype, a[rows].contiguous(), weight, bias, 1), whole[rows])


@pytest.mark.parametrize("K", [1, 2, 31, 32, 67])
def test_rows_are_rounded_to_the_nearest_and_ties_to_even(products, known, K):
    known(torch.bfloat16)
    a = torch.randn(5, K, generator=torch.Generator().manual_seed(K))
    a[0, 0], a[1, 0], a[2, 0], a[3, 0] = 1 + 2**-8, 1 + 3 * 2**-8, torch.inf, -0.0
    rounded = torch.full((5, K + K % 2), torch.nan, dtype=torch.bfloat16)
    products("round", torch.bfloat16, [5, K], [a, rounded])
    assert torch.equal(rounded[:, :K], a.bfloat16())
    assert (rounded[:, K:] == 0).all()
