"""Principal components of a data set's patches: what the parts that are never trained see patches as."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LARGE = 4096  # pixels, from which on the covariance of all of them takes minutes and gigabytes
SAMPLE = 2048  # patches that are looked at then, whose products with each other say the same


class Components(NamedTuple):
    """By falling variance; K = pixels, or `SAMPLE` of large patches."""

    mean: Tensor
    """(pixels,)."""
    variances: Tensor
    """(K,), not negative."""
    directions: Tensor
    """(pixels, K), one per column, of length 1; of large patches 0 where nothing varies any more."""


@torch.no_grad()
def principal_components(patches: Tensor) -> Components:
    """Of patches (M, pixels), M > 1; of large ones evenly spread `SAMPLE`, if there are more."""
    large = patches.shape[1] > LARGE
    if large:
        patches = patches[torch.arange(SAMPLE, device=patches.device) * len(patches) // SAMPLE]
    mean = patches.mean(dim=0)
    centred = patches - mean
    if not large:
        variances, directions = torch.linalg.eigh(centred.T @ centred / len(patches))
        return Components(mean, variances.flip(0).clamp(min=0), directions.flip(1))
    # X X^T and X^T X have the same eigenvalues but for zeros; X^T u is an eigenvector of the second (Sirovich 1987).
    variances, shares = torch.linalg.eigh(centred @ centred.T / len(patches))
    variances = variances.flip(0).clamp(min=0)
    directions = centred.T @ shares.flip(1)
    there = variances > variances[0] * torch.finfo(variances.dtype).eps * len(patches)
    return Components(mean, variances * there, torch.where(there, directions / directions.norm(dim=0), 0.0))
