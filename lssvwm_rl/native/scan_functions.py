"""The selective scan on the CPU kernels, differentiable: alone, and with all that lies between a mixer's projections.

The functions are those of `model/scan/ssd.py` and of the middle of `model/scan/block.py`, which say what is computed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lssvwm_rl.native.library import Kernels

CHUNK = 16
"""About how many tokens of a stream are a chunk, which is whole frames where there are two streams."""


def scan(
    kernels: Kernels, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """`ssd.read_then_scan` of two streams, or `ssd.chunked_scan` of one.

    Args:
        kernels: what `library.kernels_for` gives.
        x: inputs (Z, T, S, K, H, P), fp32 or fp64 as all others: T frames, S = 1, or S = 2 with the noised tokens first
            and the clean ones second, K tokens per frame and block.
        dt, B, C: likewise (Z, T, S, K, H), (Z, T, S, K, N), (Z, T, S, K, N).
        A: decay rates < 0 (H,).
        state: initial state (Z, H, P, N).

    Returns:
        Outputs (Z, T, S, K, H, P) and the state after the last token (Z, H, P, N).
    """
    return _Scan.apply(kernels, *(t.contiguous() for t in (x, dt, A, B, C, state)))


def chunked_scan(
    kernels: Kernels, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """`ssd.chunked_scan` with its shapes, those of `scan` for one stream of frames of one token: x is (Z, L, H, P)."""
    x_frames, dt_frames, B_frames, C_frames = (t[:, :, None, None] for t in (x, dt, B, C))
    y, last = scan(kernels, x_frames, dt_frames, A, B_frames, C_frames, state)
    return y[:, :, 0, 0], last


def chunk_tokens(frames: int, streams: int, tokens: int) -> int:
    """Tokens per chunk and stream, for T frames of K tokens in S streams."""
    whole = max(1, CHUNK // tokens) * tokens if streams == 2 else CHUNK
    return min(whole, frames * tokens)


class _Scan(torch.autograd.Function):
    """`scan` of contiguous tensors. For the backward pass it keeps the states before every chunk."""

    @staticmethod
    def forward(ctx: Any, kernels: Kernels, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        x, state = inputs[0], inputs[-1]
        Z, T, S, K, H, P = x.shape
        N, tokens = state.shape[-1], chunk_tokens(T, S, K)
        sizes = (Z, T, S, K, H, P, N, tokens)
        y, last = torch.empty_like(x), torch.empty_like(state)
        kept = x.new_empty(Z, -(-T * K // tokens), H, N, P) if any(ctx.needs_input_grad) else None
        kernels("scan_forward", x.dtype, sizes, (*inputs, y, last, kept))
        if kept is not None:
            ctx.save_for_backward(*inputs[:-1], y, last, kept)
            ctx.kernels, ctx.sizes = kernels, sizes
            ctx.set_materialize_grads(False)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor | None, dlast: Tensor | None) -> tuple[Tensor | None, ...]:
        x, dt, A, B, C, y, last, kept = ctx.saved_tensors
        dy = torch.zeros_like(x) if dy is None else dy.contiguous()
        dlast = None if dlast is None else dlast.contiguous()
        dx, ddt, dB, dC, dstate = (torch.empty_like(t) for t in (x, dt, B, C, last))
        dA = A.new_empty(len(x), len(A))  # of every sequence
        saved = (x, dt, A, B, C, y, last, kept)
        kernels: Kernels = ctx.kernels
        kernels("scan_backward", x.dtype, ctx.sizes, (*saved, dy, dlast, dx, ddt, dA, dB, dC, dstate))
        return None, dx, ddt, dA.sum(0), dB, dC, dstate
