"""Bias and GELU between the two products of an MLP, with its backward pass in one kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lssvwm_rl.native.library import Kernels


def bias_gelu(kernels: Kernels, product: Tensor, bias: Tensor) -> Tensor:
    """GELU (tanh) of product + bias.

    Args:
        product: (..., width), float32, float64 or bfloat16.
        bias: (width,), of that dtype but at least float32.

    Returns:
        As product.
    """
    return _BiasGelu.apply(kernels, product, bias)


class _BiasGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: Kernels, product: Tensor, bias: Tensor) -> Tensor:
        product, bias = product.contiguous(), bias.contiguous()
        activated = torch.empty_like(product)
        kernels("bias_gelu_forward", product.dtype, _sizes(product), (product, bias, activated))
        ctx.save_for_backward(product, bias)
        ctx.kernels = kernels
        return activated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dactivated: Tensor) -> tuple[Tensor | None, ...]:
        product, bias = ctx.saved_tensors
        dproduct, dbias = torch.empty_like(product), torch.empty_like(bias)
        pointers = (product, bias, dactivated.contiguous(), dproduct, dbias)
        ctx.kernels("bias_gelu_backward", product.dtype, _sizes(product), pointers)
        return None, dproduct, dbias


def _sizes(product: Tensor) -> tuple[int, int]:
    width = product.shape[-1]
    return product.numel() // width, width
