"""A picture of a memory: how much every block of every layer remembers."""

from __future__ import annotations

import math

import numpy as np

from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel


def block_levels(model: WorldModel, memory: Memory) -> tuple[np.ndarray, ...]:
    """How much every block of every layer remembers: per layer (N, down, across) float64 in [0, 1), where blocks lie.

    With r the root mean square of a block's state it is r / (1 + r), a scale that is the same at every step, so the
    memory is seen to fill. Models without block states have no layers here.
    """
    grids = model.backbone.block_grids()
    if not grids:
        return ()
    levels = []
    for layer, norms, (down, across) in zip(memory.layers, memory.block_norms(), grids, strict=True):
        rms = (norms / math.sqrt(layer.state[0, 0].numel())).cpu().numpy()
        levels.append((rms / (1 + rms)).reshape(-1, down, across))
    return tuple(levels)


def heat_map(model: WorldModel, memory: Memory) -> np.ndarray:
    """The memory of N rows as pictures (N, H, W, 3) uint8: a tile per layer, in it a field per block where it lies.

    Dark is empty; colours are those of `block_levels`.
    """
    from matplotlib import colormaps

    H, W, _ = model.config.frame_shape
    columns = math.ceil(math.sqrt(len(memory.layers)))
    rows = math.ceil(len(memory.layers) / columns)
    values = np.zeros((memory.batch_size, H, W))
    for i, blocks in enumerate(block_levels(model, memory)):
        down, across = blocks.shape[1:]
        # Whole pixels that leave no gaps, whatever the sizes: tiles of the picture, then blocks of a tile.
        y, x = divmod(i, columns)
        top, bottom, left, right = y * H // rows, (y + 1) * H // rows, x * W // columns, (x + 1) * W // columns
        of_row = np.arange(bottom - top) * down // (bottom - top)
        of_column = np.arange(right - left) * across // (right - left)
        values[:, top:bottom, left:right] = blocks[:, of_row[:, None], of_column]
    return (colormaps["inferno"](values)[..., :3] * 255).astype(np.uint8)
