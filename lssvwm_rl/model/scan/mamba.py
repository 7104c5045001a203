"""The scans of `ssd.py` on the Triton kernels of `mamba-ssm` (extra `cuda`): backend "mamba".

Same arguments, same results. Tensors are fp32 (models in fp64 use `ssd.py`); on the device Triton multiplies fp32
matrices in TF32 (about three decimal digits) unless TRITON_F32_DEFAULT=ieee. TRITON_INTERPRET=1 runs the kernels on the
CPU, slowly, for tests.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lssvwm_rl.model.backends import load_mamba
from lssvwm_rl.model.scan.ssd import read_own, scan_step

CHUNK_SIZE = 128
MAX_LAUNCH = 65535  # CUDA's limit for the grid axis on which the kernels put (sequence, chunk)


def chunked_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int = CHUNK_SIZE
) -> tuple[Tensor, Tensor]:
    """`ssd.chunked_scan` on the kernels.

    Args:
        x, dt, A, B, C, state: as in `ssd.chunked_scan`, fp32.
        chunk_size: most tokens per chunk, a power of two; changes speed, not results.

    Returns:
        Outputs (Z, L, H, P) and the state after the last token (Z, H, P, N), fp32.

    Raises:
        RuntimeError: as `backends.load_mamba`.
    """
    L = x.shape[1]
    if L == 1:
        return _step(x, dt, A, B, C, state)
    scan, _ = load_mamba()
    # Few sizes only, since the kernels are tuned anew for each; 16 is the least that they multiply.
    chunk_size = min(chunk_size, max(16, 1 << (L - 1).bit_length()))
    pieces = (t.split(MAX_LAUNCH // -(-L // chunk_size)) for t in (x, dt, B[:, :, None], C[:, :, None], state))
    scanned = [
        scan(x, dt, A, B, C, chunk_size, initial_states=state, return_final_states=True)
        for x, dt, B, C, state in zip(*pieces, strict=True)
    ]
    if len(scanned) == 1:
        return scanned[0]
    outputs, states = zip(*scanned, strict=True)
    return torch.cat(outputs), torch.cat(states)


def _step(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One token, shapes as in `chunked_scan` with L = 1."""
    inputs = (x, dt, A, B, C, state)
    if torch.is_grad_enabled() and any(t.requires_grad for t in inputs):
        return scan_step(*inputs)  # the step kernel has no derivative
    _, update = load_mamba()
    H, P, N = state.shape[1:]
    state = state.clone()  # the kernel writes into it
    # Of stride 0 over P and N, from which the kernel knows that the decay is one number per head. It crashes if D or
    # dt_bias is left out.
    decay, zero = A[:, None, None].expand(H, P, N), A.new_zeros(()).expand(H, P)
    pieces = (t.split(MAX_LAUNCH) for t in (state, x[:, 0], dt[:, 0, :, None].expand(-1, H, P), B, C))
    outputs = [
        update(state, x, dt, decay, B, C, D=zero, dt_bias=zero) for state, x, dt, B, C in zip(*pieces, strict=True)
    ]
    return torch.cat(outputs)[:, None], state


def read_then_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int = CHUNK_SIZE
) -> tuple[Tensor, Tensor]:
    """`ssd.read_then_scan` on the kernels: one scan over the frames, each as its noised and then its clean tokens.

    A noised token gets dt = 0 there, so that it writes nothing and reads the state left by the frame before. The
    decay over its own frame's tokens up to itself, and what they wrote, come afterwards.

    Args:
        x, dt, A, B, C, state: as in `ssd.read_then_scan`, fp32.
        chunk_size: most tokens of both streams per chunk, a power of two; changes speed, not results.

    Returns:
        Outputs (Z, T, 2, K, H, P) and the state after the last clean frame (Z, H, P, N), fp32.

    Raises:
        RuntimeError: as `backends.load_mamba`.
    """
    own_dt, clean_dt = dt.unbind(2)
    reading_dt = torch.stack([torch.zeros_like(own_dt), clean_dt], dim=2)
    x_flat, dt_flat, B_flat, C_flat = (t.flatten(1, 3) for t in (x, reading_dt, B, C))
    y, state = chunked_scan(x_flat, dt_flat, A, B_flat, C_flat, state, chunk_size)
    before, clean_y = y.view(x.shape).unbind(2)
    own_decay = (own_dt * A).cumsum(dim=2)  # (Z, T, K, H)
    own = read_own(C[:, :, 0], B[:, :, 0], x[:, :, 0] * own_dt[..., None], own_decay)
    return torch.stack([before * own_decay.exp()[..., None] + own, clean_y], dim=2), state
