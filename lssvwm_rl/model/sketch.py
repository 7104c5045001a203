"""A few numbers that tell a large state apart from others: random projections of a scan's states."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from lssvwm_rl.native.library import Kernels, kernels_for

SIDE = 8
SKETCH_SIZE = SIDE * SIDE
"""Numbers per layer."""


def read_out(features: Tensor, states: Mapping[int, Tensor]) -> Tensor:
    """Features and, through tanh, a sketch of every layer's states: (B, R + SKETCH_SIZE * layers).

    Args:
        features: (B, R), fp32 or fp64.
        states: number of a layer -> its states, as in `sketch`, in the features' dtype.
    """
    kernels = None if torch.is_grad_enabled() and _differentiable(features, states) else kernels_for(features)
    if kernels is not None and all(state.dtype == features.dtype for state in states.values()):
        return _read_natively(kernels, features, states)
    sketches = [sketch(state, layer) for layer, state in states.items()]
    return torch.cat([features, torch.cat(sketches, dim=1).tanh()], dim=1) if sketches else features.clone()


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
    u, v, signs = _projections(layer, tuple(state.shape[1:]), state.device, state.dtype)
    readings = u.transpose(1, 2) @ state @ v  # (B, n_blocks, heads, SIDE, SIDE); P first, which copies no state
    return (readings * signs).sum((1, 2)).flatten(1) / math.sqrt(math.prod(state.shape[1:]))


def _read_natively(kernels: Kernels, features: Tensor, states: Mapping[int, Tensor]) -> Tensor:
    out = features.new_empty(len(features), features.shape[1] + SKETCH_SIZE * len(states))
    sizes, tensors = [*features.shape, len(states)], [out, features.contiguous()]
    for layer, state in states.items():
        sizes += state.shape[1:]
        tensors += [state.contiguous(), *_projections(layer, tuple(state.shape[1:]), state.device, state.dtype)]
    kernels("readout", features.dtype, sizes, tensors)
    return out


def _differentiable(features: Tensor, states: Mapping[int, Tensor]) -> bool:
    return features.requires_grad or any(state.requires_grad for state in states.values())


@functools.lru_cache(maxsize=256)
def _projections(
    layer: int, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """u (heads, P, SIDE), v (heads, N, SIDE) and signs (n_blocks, heads, SIDE, SIDE), all +-1."""
    n_blocks, heads, P, N = shape
    shapes = ((heads, P, SIDE), (heads, N, SIDE), (n_blocks, heads, SIDE, SIDE))
    # Raw bits are what numpy promises never to change; policies depend on these numbers.
    bits = np.random.PCG64(layer).random_raw(sum(math.prod(s) for s in shapes)) >> np.uint64(63)
    parts = np.split(bits.astype(np.float32) * 2 - 1, np.cumsum([math.prod(s) for s in shapes])[:-1])
    u, v, signs = (torch.from_numpy(part.reshape(s)).to(device, dtype) for part, s in zip(parts, shapes, strict=True))
    return u, v, signs
