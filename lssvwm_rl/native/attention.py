"""Window attention between the projections of `FrameLocalAttention`, with its backward pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lssvwm_rl.native.library import Kernels


class Window(NamedTuple):
    """What lies before a clip, and how far its frames see; no gradient passes through it."""

    keys: Tensor
    """(B, k-1, n, heads, P) of the frames before the clip, float32 or float64."""
    values: Tensor
    """As the keys."""
    frames: Tensor
    """(B,) int64, frames that the episode had before the clip: what lies before an episode is hidden."""
    offsets: Tensor
    """(n, k*n) int64, which entry of a head's biases a (query, key) pair uses."""


def window_attention(
    kernels: Kernels, qkv: Tensor, q_weight: Tensor, k_weight: Tensor, bias: Tensor, window: Window
) -> Tensor:
    """Every token attends to the tokens of its own frame and stream, and to the clean ones of the k - 1 frames before.

    Args:
        qkv: (B, T, S, n, 3, heads, P) queries, keys and values before their norm; float32, float64 or bfloat16. The
            last of the S streams, 1 or 2, is the clean one.
        q_weight, k_weight: (P,) of the RMS norms (eps 1e-6), float32 or float64.
        bias: (heads, entries), likewise.
        window: what lies before the clip.

    Returns:
        (B, T, S, n, heads * P) of qkv's dtype.
    """
    return _WindowAttention.apply(kernels, qkv, q_weight, k_weight, bias, window)


def _sizes(qkv: Tensor, bias: Tensor, window: Window) -> tuple[int, ...]:
    B, T, S, n, _, heads, P = qkv.shape
    return B, T, S, n, heads, P, window.keys.shape[1] + 1, bias.shape[1]


class _WindowAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kernels: Kernels, qkv: Tensor, q_weight: Tensor, k_weight: Tensor, bias: Tensor, window: Window
    ) -> Tensor:
        qkv, q_weight, k_weight, bias = (t.contiguous() for t in (qkv, q_weight, k_weight, bias))
        window = Window(*(t.contiguous() for t in window))
        assert q_weight.dtype == k_weight.dtype == bias.dtype == window.keys.dtype == window.values.dtype
        B, T, S, n, _, heads, P = qkv.shape
        attended, logs = qkv.new_empty(B, T, S, n, heads * P), bias.new_empty(B, heads, T, S, n)
        given = (qkv, q_weight, k_weight, bias, window.offsets, window.keys, window.values, window.frames)
        kernels("attention_forward", qkv.dtype, _sizes(qkv, bias, window), (*given, attended, logs))
        ctx.save_for_backward(*given, logs)
        ctx.kernels = kernels
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dattended: Tensor) -> tuple[Tensor | None, ...]:
        *given, logs = ctx.saved_tensors
        qkv, q_weight, k_weight, bias, offsets, keys, values, frames = given
        gradients = tuple(torch.empty_like(t) for t in (qkv, q_weight, k_weight, bias))
        sizes = _sizes(qkv, bias, Window(keys, values, frames, offsets))
        ctx.kernels("attention_backward", qkv.dtype, sizes, (*given, logs, dattended.contiguous(), *gradients))
        return None, *gradients, None
