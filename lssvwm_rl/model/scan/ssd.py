"""Selective state-space scan (Mamba-2 / SSD) in plain PyTorch, with the state passed in and out.

The recurrence, per head with scalar decay (Dao & Gu 2024, "Transformers are SSMs", arXiv 2405.21060)::

    h_t = exp(dt_t * A) * h_{t-1} + dt_t * x_t B_t^T        h: (P, N)
    y_t = h_t C_t

Everything here is a pure function of its arguments, so prefill, streamed chunks and one-token steps are the same call.
Letters: Z sequences, L tokens, H heads, P head size, N state size, Q tokens written and R tokens read per chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_SIZE = 32


def chunked_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int = CHUNK_SIZE
) -> tuple[Tensor, Tensor]:
    """Scan L tokens: dense products inside chunks, a recurrence over chunk states between them.

    Args:
        x: inputs (Z, L, H, P).
        dt: step sizes >= 0 (Z, L, H); a token with dt = 0 reads the state and does not change it.
        A: decay rates < 0 (H,).
        B: write directions (Z, L, N), shared by the heads.
        C: read directions (Z, L, N), shared by the heads.
        state: initial state (Z, H, P, N).
        chunk_size: tokens per chunk; changes speed, not results.

    Returns:
        Outputs (Z, L, H, P) and the state after the last token (Z, H, P, N).
    """
    L = x.shape[1]
    if L == 1:
        return scan_step(x, dt, A, B, C, state)
    causal = torch.ones(min(L, chunk_size), min(L, chunk_size), dtype=torch.bool, device=x.device).tril()
    # split, not slices: its backward is one concatenation.
    pieces = [t.split(chunk_size, dim=1) for t in (x * dt[..., None], dt * A, B, C)]
    outputs = []
    for written, log_step, B_piece, C_piece in zip(*pieces, strict=True):
        Q = written.shape[1]
        decay = log_step.cumsum(dim=1)
        y, state = _scan_chunk(C_piece, decay, B_piece, written, decay, state, causal[:Q, :Q])
        outputs.append(y)
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)), state


def scan_step(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence itself for one token; shapes as in `chunked_scan` with L = 1."""
    Z, _, H, P = x.shape
    decay = torch.exp(dt[:, 0] * A)
    written = dt[:, 0, :, None] * x[:, 0]
    # Two passes over the state, which is what a step costs: read the old one, and write the new one by a rank-1 update.
    carried = torch.bmm(state.reshape(Z, H * P, -1), C[:, 0, :, None]).view(Z, H, P)
    y = decay[..., None] * carried + written * (B[:, 0] * C[:, 0]).sum(dim=-1)[:, None, None]
    decayed = (decay[..., None, None] * state).view(Z, H * P, -1)
    state = torch.baddbmm(decayed, written.reshape(Z, H * P, 1), B[:, :1]).view_as(state)
    return y[:, None], state


def read_frame(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> Tensor:
    """The outputs of `chunked_scan` without the new state, for K tokens that do not stay: a frame while it is denoised.

    All arguments are as in `chunked_scan` with L = K, few tokens.

    Returns:
        Outputs (Z, K, H, P).
    """
    Z, K, H, P = x.shape
    carried = torch.bmm(C, state.reshape(Z, H * P, -1).transpose(1, 2)).view(Z, K, H, P)
    decay = (dt * A).cumsum(dim=1)
    return torch.addcmul(read_own(C, B, x * dt[..., None], decay), carried, decay.exp()[..., None])


def read_then_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int = CHUNK_SIZE
) -> tuple[Tensor, Tensor]:
    """Two streams over the same frames: a clean one that writes and a noised one that only reads.

    The noised frame t must see what inference will show it: the state left by the clean frames before t, then its own
    tokens. The first part is a chunked scan in which the clean tokens write and both streams read; the second is a
    scan of each noised frame alone, and by linearity the two add up.

    Args:
        x: inputs (Z, T, 2, K, H, P): T frames, stream 0 noised and 1 clean, K tokens per frame and block.
        dt: likewise (Z, T, 2, K, H).
        A: as in `chunked_scan`.
        B: likewise (Z, T, 2, K, N).
        C: likewise (Z, T, 2, K, N).
        state: as in `chunked_scan`.
        chunk_size: about how many clean tokens a chunk has, which is whole frames.

    Returns:
        Outputs (Z, T, 2, K, H, P) and the state after the last clean frame (Z, H, P, N).
    """
    Z, T, _, K, H, P = x.shape
    # unbind, not indices: its backward is one stack.
    (own_written, clean_written), (own_step, clean_step) = (x * dt[..., None]).unbind(2), (dt * A).unbind(2)
    own_decay = own_step.cumsum(dim=2)  # (Z, T, K, H), within each noised frame
    own_B, clean_B = B.unbind(2)
    frames = max(1, chunk_size // K)
    visible = _visible(min(frames, T), K, x.device)
    clean = (t.split(frames, dim=1) for t in (clean_written, clean_step, clean_B, C, own_decay))
    outputs = []
    for written_piece, log_step_piece, B_piece, C_piece, own_piece in zip(*clean, strict=True):
        F = written_piece.shape[1]
        decay = log_step_piece.flatten(1, 2).cumsum(dim=1)
        clean_decay = decay.view(Z, F, K, H)
        before = torch.cat([decay.new_zeros(Z, 1, 1, H), clean_decay[:, :-1, -1:]], dim=1)
        read_decay = torch.stack([before + own_piece, clean_decay], dim=2).flatten(1, 3)
        y, state = _scan_chunk(
            C_piece.flatten(1, 3),
            read_decay,
            B_piece.flatten(1, 2),
            written_piece.flatten(1, 2),
            decay,
            state,
            visible[: F * 2 * K, : F * K],
        )
        outputs.append(y.view(Z, F, 2, K, H, P))
    y = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
    noised, clean_y = y.unbind(2)
    own = read_own(C[:, :, 0], own_B, own_written, own_decay)
    return torch.stack([noised + own, clean_y], dim=2), state


def _visible(frames: int, K: int, device: torch.device) -> Tensor:
    """(frames * 2 * K, frames * K) bool: which clean tokens each token of either stream comes after."""
    token = torch.arange(frames * K, device=device).view(frames, 1, K)
    # A noised frame reads up to the frame before, a clean token up to itself.
    latest = torch.cat([token // K * K - 1 + 0 * token, token], dim=1).flatten()
    return latest[:, None] >= torch.arange(frames * K, device=device)


def read_own(C: Tensor, B: Tensor, written: Tensor, decay: Tensor) -> Tensor:
    """What the K tokens of each frame read of their own writes: C, B (..., K, N), written (..., K, H, P)."""
    K = C.shape[-2]
    if K == 1:
        return (C * B).sum(dim=-1)[..., None, None] * written
    causal = torch.ones(K, K, dtype=torch.bool, device=C.device).tril()[..., None]
    # Masked before exp: above the diagonal the exponent may overflow, which would poison gradients.
    pairwise = (decay[..., :, None, :] - decay[..., None, :, :]).masked_fill(~causal, float("-inf")).exp()
    weights = pairwise * (C @ B.transpose(-1, -2))[..., None]  # (..., K, K, H)
    return torch.einsum("...ijh,...jhp->...ihp", weights, written)


def _scan_chunk(
    C: Tensor, read_decay: Tensor, B: Tensor, written: Tensor, decay: Tensor, state: Tensor, visible: Tensor
) -> tuple[Tensor, Tensor]:
    """One chunk, whose R reads and Q writes may be different tokens.

    Args:
        C: read directions (Z, R, N).
        read_decay: log of the total decay from the chunk's start to each read (Z, R, H).
        B: write directions (Z, Q, N).
        written: dt * x (Z, Q, H, P).
        decay: log of the total decay from the chunk's start to each write (Z, Q, H).
        state: at the chunk's start (Z, H, P, N).
        visible: (R, Q) bool, True where the read comes after the write; `read_decay <= decay` there.

    Returns:
        Outputs (Z, R, H, P) and the state after the last write.
    """
    return _ScanChunk.apply(C, read_decay, B, written, decay, state, visible)


class _ScanChunk(torch.autograd.Function):
    """`_scan_chunk` with its derivative by hand, since memory traffic is what a scan costs.

    With r for `read_decay`, d for `decay`, w for `written`, h for `state` and L for the last write, and per head::

        y_i   = exp(r_i) h C_i + sum_j [j visible to i] exp(r_i - d_j) (C_i . B_j) w_j
        h_end = exp(d_L) h     + sum_j                  exp(d_L - d_j) w_j B_j^T

    The pairwise decays exp(r_i - d_j), (Z, H, R, Q), are made again in the backward pass and not kept.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        C, read_decay, B, written, decay, state, visible = inputs
        Z, Q, H, P = written.shape
        from_start, to_end = read_decay.exp()[..., None], (decay[:, -1:] - decay).exp()[..., None]
        # What was there at the chunk's start: h C_i, for all heads in one product.
        flat_state = state.reshape(Z, H * P, -1)
        carried = torch.bmm(C, flat_state.transpose(1, 2)).view(Z, -1, H, P)
        # What was written within the chunk: weights of pairs times writes.
        scores = _scores(C, B, visible)
        within = _pairwise(read_decay, decay).mul_(scores) @ written.transpose(1, 2)  # (Z, H, R, P)
        y = torch.addcmul(within.transpose(1, 2), carried, from_start)
        # The state at the end: the first one decayed, and every write decayed from its own time on.
        kept = decay[:, -1].exp()[..., None, None] * state
        weighted = (written * to_end).reshape(Z, Q, H * P)
        last = torch.baddbmm(kept.view(Z, H * P, -1), weighted.transpose(1, 2), B).view_as(state)
        ctx.save_for_backward(*inputs, scores, y, last)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        C, read_decay, B, written, decay, state, visible, scores, y, last = ctx.saved_tensors
        dy, dlast = gradients
        Z, Q, H, P = written.shape
        from_start, to_end = read_decay.exp()[..., None], (decay[:, -1:] - decay).exp()[..., None]
        flat_state, flat_dlast = state.reshape(Z, H * P, -1), dlast.reshape(Z, H * P, -1)
        # 1. Through the first term of y, exp(r_i) h C_i: what C_i and h get from dy.
        read = (dy * from_start).reshape(Z, -1, H * P)
        dC = torch.bmm(read, flat_state)
        # 2. Through h_end: h gets exp(d_L) dh_end, in one product with what it got in step 1; B_j gets
        #    exp(d_L - d_j) dh_end^T w_j, and w_j gets dh_end B_j, decayed in step 4.
        kept = decay[:, -1].exp()[..., None, None] * dlast
        dstate = torch.baddbmm(kept.view(Z, H * P, -1), read.transpose(1, 2), C).view_as(state)
        weighted = (written * to_end).reshape(Z, Q, H * P)
        dB = torch.bmm(weighted, flat_dlast)
        dwritten = torch.bmm(B, flat_dlast.transpose(1, 2)).view(Z, Q, H, P)
        # 3. Through the second term of y, whose weights are exp(r_i - d_j) scores_ij. The scores C_i . B_j are shared
        #    by the heads: their gradient is the sum over heads of exp(r_i - d_j) dy_i . w_j, where j is visible to i.
        dy_heads, written_heads = dy.transpose(1, 2).contiguous(), written.transpose(1, 2)
        pairwise = _pairwise(read_decay, decay)
        dscores = (dy_heads @ written_heads.transpose(2, 3)).mul_(pairwise).sum(dim=1).masked_fill_(~visible, 0)
        dC = dC.baddbmm_(dscores, B)
        dB = dB.baddbmm_(dscores.transpose(1, 2), C)
        # 4. w_j gets the same weights, transposed, times dy; and its part of step 2, decayed to the end.
        within = pairwise.mul_(scores).transpose(2, 3) @ dy_heads  # (Z, H, Q, P)
        dwritten = torch.addcmul(within.transpose(1, 2), dwritten, to_end)
        # 5. Logarithms of decays need no pass over pairs. All of y_i is proportional to exp(r_i): r_i gets dy_i . y_i.
        #    d_j occurs as exp(-d_j) w_j alone: it gets -w_j . dw_j; and d_L also as the factor exp(d_L) of all h_end.
        dread_decay = (dy * y).sum(dim=-1)
        ddecay = -(written * dwritten).sum(dim=-1)
        ddecay[:, -1] += (dlast * last).sum(dim=(2, 3))
        return dC, dread_decay, dB, dwritten, ddecay, dstate, None


def _scores(C: Tensor, B: Tensor, visible: Tensor) -> Tensor:
    """How much each read (Z, R, N) looks at each write (Z, Q, N), zero where it is not visible: (Z, 1, R, Q)."""
    return torch.bmm(C, B.transpose(1, 2)).masked_fill_(~visible, 0)[:, None]


def _pairwise(read_decay: Tensor, decay: Tensor) -> Tensor:
    """Decay from each write to each read, (Z, R, H) and (Z, Q, H) -> (Z, H, R, Q); 1 where the read comes first.

    Clamped before exp: for a read that comes first the exponent is positive and may overflow, which no later
    multiplication with zero would undo.
    """
    reads, writes = read_decay.transpose(1, 2)[..., None], decay.transpose(1, 2)[:, :, None]
    return (reads - writes).clamp_(max=0).exp_()
