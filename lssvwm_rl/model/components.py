"""Principal components of a data set's patches: what the parts that are never trained see patches as."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Components(NamedTuple):
    """By falling variance."""

    mean: Tensor
    """(pixels,)."""
    variances: Tensor
    """(pixels,), not negative."""
    directions: Tensor
    """(pixels, pixels), one per column, of length 1."""


@torch.no_grad()
def principal_components(patches: Tensor) -> Components:
    """Of patches (M, pixels), M > 1."""
    mean = patches.mean(dim=0)
    centred = patches - mean
    variances, directions = torch.linalg.eigh(centred.T @ centred / len(patches))
    return Components(mean, variances.flip(0).clamp(min=0), directions.flip(1))
