"""EpisodicRecall: an auxiliary loss that gives the memory a reason early.

Predicting the next frame asks little of a long memory: the window explains nearly every frame, and a reward that
depends on something seen long ago has no gradient before that something is stored. So the readout of a later frame is
asked to complete an earlier frame of the same clip from a part of it: the visible part says which frame is meant, the
hidden part has to come from memory. It is masked auto-encoding (He et al. 2022, arXiv 2111.06377) with the episode as
context. Used in training only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MASK_CELLS = 7  # the mask is drawn on a grid of so many cells per side


class EpisodicRecall(nn.Module):
    """Completes masked frames from the readout.

    Args:
        tokens: tokens per frame.
        width: token width D.
        readout_size: R.
        hidden: width of the completing MLP.
    """

    def __init__(self, tokens: int, width: int, readout_size: int, hidden: int):
        super().__init__()
        narrow = max(16, hidden // tokens)
        self.narrow_in, self.narrow_out = nn.Linear(width, narrow), nn.Linear(narrow, width)
        self.mlp = nn.Sequential(
            nn.Linear(tokens * narrow + readout_size, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, tokens * narrow),
        )

    def forward(self, tokens: Tensor, readout: Tensor) -> Tensor:
        """Tokens (M, h, w, D) of masked frames and readouts (M, R) -> tokens (M, h, w, D) of the completed frames."""
        query = F.silu(self.narrow_in(tokens))
        completed = self.mlp(torch.cat([query.flatten(1), readout], dim=1))
        return self.narrow_out(completed.view_as(query))


def draw_pairs(mask: Tensor, pairs: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Random (row, later, earlier) frame indices with earlier <= later, both real frames of the same row.

    Args:
        mask: (B, T) bool, real frames first, then padding.
        pairs: per row.

    Returns:
        Three (B * pairs,) int64 tensors.
    """
    draw = torch.rand(2, len(mask), pairs, generator=generator, device=mask.device)
    later = (draw[0] * mask.sum(dim=1, keepdim=True)).long()
    earlier = (draw[1] * (later + 1)).long()
    rows = torch.arange(len(mask), device=mask.device)[:, None].expand_as(later)
    return rows.flatten(), later.flatten(), earlier.flatten()


def draw_visible(count: int, height: int, width: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(count, H, W) bool: pixels left visible, a random share of the cells that differs by frame."""
    cells = torch.rand(count, 1, MASK_CELLS, MASK_CELLS, generator=generator, device=device)
    share = 0.1 + 0.6 * torch.rand(count, 1, 1, 1, generator=generator, device=device)
    visible = F.interpolate((cells < share).float(), size=(height, width), mode="nearest")
    return visible[:, 0] > 0.5
