"""Selective state-space scan (Mamba-2 / SSD) in plain PyTorch, with the state passed in and out.

The recurrence, per head with scalar decay (Dao & Gu 2024, "Transformers are SSMs", arXiv 2405.21060)::

    h_t = exp(dt_t * A) * h_{t-1} + dt_t * x_t B_t^T        h: (P, N)
    y_t = h_t C_t

Everything here is a pure function of its arguments, so prefill, streamed chunks and one-token steps are the same call.
Letters: Z sequences, L tokens, H heads, P head size, N state size, Q tokens per chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK_SIZE = 64


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
    if x.shape[1] == 1:
        return scan_step(x, dt, A, B, C, state)
    outputs = []
    for start in range(0, x.shape[1], chunk_size):
        piece = slice(start, start + chunk_size)
        y, state = _scan_chunk(x[:, piece], dt[:, piece], A, B[:, piece], C[:, piece], state)
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


def _scan_chunk(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    Z, Q, H, P = x.shape
    N = B.shape[-1]
    log_decay = (dt * A).cumsum(dim=1).transpose(1, 2)  # (Z, H, Q): total decay from the chunk's start
    written = (x * dt[..., None]).transpose(1, 2)  # (Z, H, Q, P)
    y = _read_within(log_decay, written, B, C)
    carried = torch.bmm(C, state.reshape(Z, H * P, N).transpose(1, 2)).view(Z, Q, H, P).transpose(1, 2)
    y = y + log_decay.exp()[..., None] * carried

    to_end = (log_decay[..., -1:] - log_decay).exp()  # (Z, H, Q)
    weighted = (written * to_end[..., None]).permute(0, 1, 3, 2).reshape(Z, H * P, Q)
    update = torch.bmm(weighted, B).view(Z, H, P, N)
    state = log_decay[..., -1].exp()[..., None, None] * state + update
    return y.transpose(1, 2), state


def _read_within(log_decay: Tensor, written: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """What Q tokens read of their own writes: log_decay (Z, H, Q), written dt * x (Z, H, Q, P) -> (Z, H, Q, P)."""
    Q = B.shape[1]
    causal = torch.ones(Q, Q, dtype=torch.bool, device=B.device).tril()
    # Masked before exp: above the diagonal the exponent is positive and may overflow, which would poison gradients.
    pairwise = (log_decay[..., :, None] - log_decay[..., None, :]).masked_fill(~causal, float("-inf")).exp()
    scores = torch.bmm(C, B.transpose(1, 2))  # (Z, Q, Q)
    return (pairwise * scores[:, None]) @ written


def read_then_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int = CHUNK_SIZE
) -> tuple[Tensor, Tensor]:
    """Two streams over the same frames: a clean one that writes and a noised one that only reads.

    The noised frame t must see what inference will show it: the state left by the clean frames before t, then its own
    tokens. Interleaving [noised_t, clean_t] with dt = 0 on noised tokens gives the first part in one scan; the
    own-frame part is a scan of each noised frame alone, and by linearity the two add up.

    Args:
        x: inputs (Z, T, 2, K, H, P): T frames, stream 0 noised and 1 clean, K tokens per frame and block.
        dt, B, C: likewise (Z, T, 2, K, H), (Z, T, 2, K, N), (Z, T, 2, K, N).
        A, state, chunk_size: as in `chunked_scan`.

    Returns:
        Outputs (Z, T, 2, K, H, P) and the state after the last clean frame (Z, H, P, N).
    """
    Z, T, _, K, H, P = x.shape
    N = B.shape[-1]
    writing = dt.new_tensor([0.0, 1.0]).view(1, 1, 2, 1, 1)
    y, state = chunked_scan(
        x.reshape(Z, T * 2 * K, H, P),
        (dt * writing).reshape(Z, T * 2 * K, H),
        A,
        B.reshape(Z, T * 2 * K, N),
        C.reshape(Z, T * 2 * K, N),
        state,
        chunk_size,
    )
    y = y.view(Z, T, 2, K, H, P)
    log_decay = (dt[:, :, 0] * A).cumsum(dim=2).flatten(0, 1).transpose(1, 2)  # (Z * T, H, K), within the frame
    written = (x[:, :, 0] * dt[:, :, 0, :, :, None]).flatten(0, 1).transpose(1, 2)
    own = _read_within(log_decay, written, B[:, :, 0].flatten(0, 1), C[:, :, 0].flatten(0, 1))
    own = own.transpose(1, 2).view(Z, T, K, H, P)
    decay = log_decay.exp().transpose(1, 2).view(Z, T, K, H, 1)
    return torch.stack([y[:, :, 0] * decay + own, y[:, :, 1]], dim=2), state
