"""A few numbers that tell a large state apart from others: random projections of a scan's states."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

SIDE = 8
SKETCH_SIZE = SIDE * SIDE
"""Numbers per layer."""


def sketch(state: Tensor, layer: int) -> Tensor:
    """Random projections of a layer's states, of the size of a typical number in them.

    Each is a sum over blocks and heads, with random signs, of one reading u^T h v: of what the state h holds at the
    address v, the part along u; entries of u and v are random signs. Distances between states survive that nearly whole
    (Johnson & Lindenstrauss 1984), so what can be told apart in the states can be told apart in the sketch.

    Args:
        state: (B, n_blocks, heads, P, N), fp32 or fp64.
        layer: every layer has projections of its own; they are the same on every machine.

    Returns:
        (B, SKETCH_SIZE) of the state's dtype.
    """
    u, v, signs = (part.to(state.dtype) for part in _projections(layer, tuple(state.shape[1:]), state.device))
    readings = torch.einsum("bnhpa,hpc->bnhca", torch.einsum("bnhpk,hka->bnhpa", state, v), u)
    return torch.einsum("bnhca,nhca->bca", readings, signs).flatten(1) / math.sqrt(state[0].numel())


@functools.lru_cache(maxsize=256)
def _projections(layer: int, shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """u (heads, P, SIDE), v (heads, N, SIDE) and signs (n_blocks, heads, SIDE, SIDE), all +-1."""
    n_blocks, heads, P, N = shape
    shapes = ((heads, P, SIDE), (heads, N, SIDE), (n_blocks, heads, SIDE, SIDE))
    # Raw bits are what numpy promises never to change; policies depend on these numbers.
    bits = np.random.PCG64(layer).random_raw(sum(math.prod(s) for s in shapes)) >> np.uint64(63)
    parts = np.split(bits.astype(np.float32) * 2 - 1, np.cumsum([math.prod(s) for s in shapes])[:-1])
    u, v, signs = (torch.from_numpy(part.reshape(s)).to(device) for part, s in zip(parts, shapes, strict=True))
    return u, v, signs
