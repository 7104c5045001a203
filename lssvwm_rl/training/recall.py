"""What the recall loss asks for: pairs of frames, and which part of the earlier one is shown."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.errors import FrameErrors

MASK_CELLS = 7  # the mask is drawn on a grid of so many cells per side


def recall_loss(
    model: WorldModel,
    errors: FrameErrors,
    features: Tensor,
    mask: Tensor,
    pairs: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Error of earlier frames that are completed from the features of later ones, see `model.recall`.

    Args:
        errors: of the clip's frames.
        features: (B, T, R).
        mask: (B, T) bool, frames to draw from.
        pairs: (later, earlier) frames per clip.

    Returns:
        Errors (B * pairs,), and which of them count (B * pairs,) bool: those of clips with such frames.
    """
    rows, later, earlier = draw_pairs(mask, pairs, generator)
    visible = draw_visible(len(rows), *model.config.frame_shape[:2], generator, model.device)
    query = errors.masked(rows, earlier, visible)
    completed = model.recall(model.patch_in(query) + model.position, features[rows, later])
    return errors.hidden_error(model.patch_out(completed), rows, earlier, visible), mask.any(dim=1)[rows]


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
