"""AdaLN and gated residuals of a layer, each with its backward pass in one kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lssvwm_rl.native.library import Kernels


def ada_norm(kernels: Kernels, tokens: Tensor, mixed: Tensor | None, share: Tensor) -> tuple[Tensor, Tensor]:
    """tokens + gate * mixed, and its layer norm (eps 1e-6) * (1 + scale) + shift.

    Args:
        tokens: (F, n, D), n tokens for each of F frames; float32 or float64.
        mixed: (F, n, D), float32, float64 or bfloat16; None for nothing to add.
        share: (F, 3 * D) of mixed's dtype: gate, shift, scale; (F, 2 * D) without a gate if there is nothing to add.
            It may be a part of wider rows.

    Returns:
        The sum, as tokens, and its norm, of share's dtype.
    """
    return _AdaNorm.apply(kernels, tokens, mixed, share)


def gated_sum(kernels: Kernels, tokens: Tensor, mixed: Tensor, gate: Tensor) -> Tensor:
    """tokens + gate * mixed, all as in `ada_norm`; gate (F, D)."""
    return _GatedSum.apply(kernels, tokens, mixed, gate)


def _sizes(tokens: Tensor, share: Tensor, gated: bool) -> tuple[int, ...]:
    assert share.stride(1) == 1
    return (*tokens.shape, share.stride(0), gated)


def _span(share: Tensor) -> Tensor:
    """What lies in memory from a share's first number to its last."""
    rows, columns = share.shape
    return share.as_strided(((rows - 1) * share.stride(0) + columns,), (1,))


class _AdaNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kernels: Kernels, tokens: Tensor, mixed: Tensor | None, share: Tensor
    ) -> tuple[Tensor, Tensor]:
        tokens, mixed = tokens.contiguous(), None if mixed is None else mixed.contiguous()
        assert mixed is None or mixed.dtype == share.dtype
        total = None if mixed is None else torch.empty_like(tokens)
        normed = torch.empty(tokens.shape, dtype=share.dtype)
        moments = tokens.new_empty(*tokens.shape[:2], 2)
        pointers = (tokens, mixed, _span(share), total, normed, moments)
        sizes = _sizes(tokens, share, mixed is not None)
        kernels("ada_norm_forward", share.dtype, sizes, pointers)
        ctx.save_for_backward(tokens if total is None else total, mixed, share, moments)
        ctx.kernels = kernels
        ctx.set_materialize_grads(False)
        return tokens.view_as(tokens) if total is None else total, normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dtotal: Tensor | None, dnormed: Tensor | None) -> tuple[Tensor | None, ...]:
        total, mixed, share, moments = ctx.saved_tensors
        dtotal = None if dtotal is None else dtotal.contiguous()
        dnormed = torch.zeros(total.shape, dtype=share.dtype) if dnormed is None else dnormed.contiguous()
        dtokens, dshare = torch.empty_like(total), torch.empty(share.shape, dtype=share.dtype)
        dmixed = None if mixed is None else torch.empty_like(mixed)
        pointers = (total, mixed, _span(share), moments, dtotal, dnormed, dtokens, dmixed, dshare)
        ctx.kernels("ada_norm_backward", share.dtype, _sizes(total, share, mixed is not None), pointers)
        return None, dtokens, dmixed, dshare


class _GatedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: Kernels, tokens: Tensor, mixed: Tensor, gate: Tensor) -> Tensor:
        tokens, mixed = tokens.contiguous(), mixed.contiguous()
        assert mixed.dtype == gate.dtype
        total = torch.empty_like(tokens)
        pointers = (tokens, mixed, _span(gate), total)
        kernels("gated_sum_forward", gate.dtype, _sizes(tokens, gate, True), pointers)
        ctx.save_for_backward(mixed, gate)
        ctx.kernels = kernels
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dtotal: Tensor) -> tuple[Tensor | None, ...]:
        mixed, gate = ctx.saved_tensors
        dtotal = dtotal.contiguous()
        dmixed, dgate = torch.empty_like(mixed), torch.empty(gate.shape, dtype=gate.dtype)
        pointers = (mixed, _span(gate), dtotal, dmixed, dgate)
        ctx.kernels("gated_sum_backward", gate.dtype, _sizes(mixed, gate, True), pointers)
        return None, dtotal, dmixed, dgate
