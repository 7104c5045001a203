"""Pictures of dreams: the frame, and beside it how much every block of every layer remembers."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from lssvwm_rl.model.heat_map import heat_map
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel

RED = (255, 0, 0)


def check_render(model: WorldModel, render_mode: str | None, render_memory: bool) -> None:
    """Raise ValueError for an unknown render mode, or a memory that cannot be shown."""
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"Render mode {render_mode!r} is unknown; use rgb_array or None.")
    if render_memory and not model.backbone.block_grids():
        kind = model.config.backbone.kind
        raise ValueError(f"A model of kind {kind!r} has no block states to show; leave render_memory out.")


def draw(
    model: WorldModel, frames: Tensor, memory: Memory | None = None, doubted: np.ndarray | None = None
) -> list[np.ndarray]:
    """What `render` shows of each row: (H, W, 3) uint8, or (H, 2 W, 3) with the heat map of a memory.

    Args:
        frames: (N, H, W, C) uint8, C of 1 (grey), 3, or 4 (whose last is left out).
        memory: N rows of the model.
        doubted: (N,) bool, which frames get a red border, at each edge 1/32 of the shorter side.
    """
    pictures = frames.cpu().numpy()
    pictures = pictures.repeat(3, axis=3) if pictures.shape[3] == 1 else pictures[..., :3].copy()
    if doubted is not None:
        inside = np.zeros(pictures.shape[1:3], bool)
        width = max(1, min(inside.shape) // 32)
        inside[width:-width, width:-width] = True
        pictures[doubted[:, None, None] & ~inside] = RED
    if memory is not None:
        pictures = np.concatenate([pictures, heat_map(model, memory)], axis=2)
    return list(pictures)
