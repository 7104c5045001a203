"""EpisodicRecall: an auxiliary loss that gives the memory a reason early.

Predicting the next frame asks little of a long memory: the window explains nearly every frame, and a reward that
depends on something seen long ago has no gradient before that something is stored. So the features of a later frame are
asked to complete an earlier frame of the same clip from a part of it: the visible part says which frame is meant, what
is masked has to come from memory. It is masked auto-encoding (He et al. 2022, arXiv 2111.06377) with the episode as
context. Used in training only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EpisodicRecall(nn.Module):
    """Completes masked frames from the features of later ones.

    Args:
        tokens: tokens per frame.
        width: token width D.
        feature_size: R.
        mlp_width: of the hidden layers of the completing MLP.
    """

    def __init__(self, tokens: int, width: int, feature_size: int, mlp_width: int):
        super().__init__()
        narrow = max(16, mlp_width // tokens)
        self.narrow_in, self.narrow_out = nn.Linear(width, narrow), nn.Linear(narrow, width)
        self.mlp = nn.Sequential(
            nn.Linear(tokens * narrow + feature_size, mlp_width),
            nn.SiLU(),
            nn.Linear(mlp_width, mlp_width),
            nn.SiLU(),
            nn.Linear(mlp_width, tokens * narrow),
        )

    def forward(self, tokens: Tensor, features: Tensor) -> Tensor:
        """Tokens (M, h, w, D) of masked frames and features (M, R) -> tokens (M, h, w, D) of the completed frames."""
        query = F.silu(self.narrow_in(tokens))
        completed = self.mlp(torch.cat([query.flatten(1), features], dim=1))
        return self.narrow_out(completed.view_as(query))
