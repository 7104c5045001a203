"""Random weights that are never trained and not saved: the same on every machine."""

from __future__ import annotations

import math
from contextvars import ContextVar

import numpy as np
import torch
from torch import Tensor

shapes_alone: ContextVar[bool] = ContextVar("shapes_alone", default=False)
"""Whether nothing but the shapes of what is drawn is wanted, see `shapes`."""


class Draws:
    """Uniform numbers of unit variance, fp64; raw bits are what numpy promises never to change."""

    def __init__(self, seed: int):
        self.bits = np.random.PCG64(seed)

    def __call__(self, *shape: int) -> Tensor:
        if shapes_alone.get():
            return torch.empty(shape, dtype=torch.float64)
        unit = (self.bits.random_raw(math.prod(shape)) >> np.uint64(11)) * 2.0**-53
        return torch.from_numpy((2 * unit - 1) * math.sqrt(3)).view(shape)
