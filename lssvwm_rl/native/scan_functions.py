"""The selective scan on the CPU kernels, differentiable: alone, and with all that lies between a mixer's projections.

The functions are those of `model/scan/ssd.py` and of the middle of `model/scan/block.py`, which say what is computed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lssvwm_rl.native.library import Kernels

CHUNK = 32
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


def mix(
    kernels: Kernels,
    projected: Tensor,
    place: Tensor | None,
    parameters: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor],
    state: Tensor,
    block: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """What `BlockScan` computes between its projections, for frames that stay in the state.

    Args:
        kernels: what `library.kernels_for` gives.
        projected: (B, T, S, h, w, W), the gates (H * P), x (H * P), B (N), C (N) and dt (H) of every token, in fp32,
            fp64 or bf16; with S as in `scan`.
        place: (B, T, N), what the address adds to B and C before their norms; None without.
        parameters: weights of the norms of B and C (N,) each, bias of dt (H,), A (H,), weight of the norm of y (H, P),
            D (H,). These, place and state are fp64 if `projected` is, else fp32.
        state: (B, blocks, H, P, N).
        block: (b_h, b_w), dividing (h, w).

    Returns:
        (B, T, S, h, w, H * P) of the dtype of `projected`, and the state after frame T.
    """
    place = None if place is None else place.contiguous()
    return _Mix.apply(kernels, block, projected.contiguous(), place, *(t.contiguous() for t in (*parameters, state)))


class _Mix(torch.autograd.Function):
    """`mix` of contiguous tensors. For the backward pass it keeps the states before every chunk and what was read."""

    @staticmethod
    def forward(
        ctx: Any, kernels: Kernels, block: tuple[int, int], projected: Tensor, place: Tensor | None, *rest: Tensor
    ) -> tuple[Tensor, Tensor]:
        (B, T, S, h, w, _), (_, blocks, H, P, N) = projected.shape, rest[-1].shape
        K = block[0] * block[1]
        tokens = chunk_tokens(T, S, K)
        sizes = (B, T, S, h, w, *block, H, P, N, tokens)
        out, last = projected.new_empty(B, T, S, h, w, H * P), torch.empty_like(rest[-1])
        states = y = None
        if any(ctx.needs_input_grad):
            chunks = -(-T * K // tokens)
            states = last.new_empty(B * blocks, chunks, H, N, P)
            y = last.new_empty(B * blocks, chunks, H, S, tokens, P)
        kernels("mix_forward", projected.dtype, sizes, (projected, place, *rest, out, last, states, y))
        if states is not None:
            ctx.save_for_backward(projected, place, *rest[:-1], last, states, y)
            ctx.kernels, ctx.sizes = kernels, sizes
            ctx.set_materialize_grads(False)
        return out, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor | None, dlast: Tensor | None) -> tuple[Tensor | None, ...]:
        projected, place, *parameters, last, states, y = saved = ctx.saved_tensors
        out_shape = (*projected.shape[:-1], last.shape[2] * last.shape[3])
        dout = projected.new_zeros(out_shape) if dout is None else dout.contiguous()
        dlast = None if dlast is None else dlast.contiguous()
        dprojected, dstate = torch.empty_like(projected), torch.empty_like(last)
        dplace = None if place is None else torch.empty_like(place)
        # In the order in which the kernel sums them up.
        B_weight, C_weight, dt_bias, A, y_weight, D = parameters
        ordered = (A, dt_bias, D, y_weight, B_weight, C_weight)
        sums = last.new_empty(sum(t.numel() for t in ordered))
        kernels: Kernels = ctx.kernels
        kernels("mix_backward", projected.dtype, ctx.sizes, (*saved, dout, dlast, dprojected, dplace, sums, dstate))
        dA, ddt_bias, dD, dy_weight, dB_weight, dC_weight = sums.split([t.numel() for t in ordered])
        dparameters = (dB_weight, dC_weight, ddt_bias, dA, dy_weight.view_as(y_weight), dD)
        return None, None, dprojected, dplace, *dparameters, dstate
