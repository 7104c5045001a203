"""Precision: what has to stay exact while everything around it is computed in fewer bits."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_fp32(t: Tensor) -> Tensor:
    """The same numbers with at least the precision of fp32: bf16 and fp16 become fp32, fp32 and fp64 stay as they are.

    For states, caches, decays, logits and readings, which mixed precision must not round, and which are fp64 in a model
    that is `model.double()`.
    """
    return t.to(torch.promote_types(t.dtype, torch.float32))


def state_zeros(weight: Tensor, *shape: int) -> Tensor:
    """Zeros where a weight is, with at least the precision of fp32: a plain tensor also where the weight is spread over
    devices, whose own `new_zeros` would be, too."""
    return torch.zeros(shape, dtype=torch.promote_types(weight.dtype, torch.float32), device=weight.device)
