"""Random weights that are never trained and not saved: the same on every machine."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


class Draws:
    """Uniform numbers of unit variance, fp64; raw bits are what numpy promises never to change."""

    def __init__(self, seed: int):
        self.bits = np.random.PCG64(seed)

    def __call__(self, *shape: int) -> Tensor:
        if torch.get_default_device().type == "meta":  # where shapes are looked at alone
            return torch.empty(shape, dtype=torch.float64)
        unit = (self.bits.random_raw(math.prod(shape)) >> np.uint64(11)) * 2.0**-53
        return torch.from_numpy((2 * unit - 1) * math.sqrt(3)).view(shape)
