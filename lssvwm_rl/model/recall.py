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


class EpisodicRecall(nn.Module):
    """Completes masked frames from the readout.

    Args:
        tokens: tokens per frame.
        width: token width D.
        feature_size: R.
        hidden: width of the completing MLP.
    """

    def __init__(self, tokens: int, width: int, feature_size: int, hidden: int):
        super().__init__()
        narrow = max(16, hidden // tokens)
        self.narrow_in, self.narrow_out = nn.Linear(width, narrow), nn.Linear(narrow, width)
        self.mlp = nn.Sequential(
            nn.Linear(tokens * narrow + feature_size, hidden),
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
