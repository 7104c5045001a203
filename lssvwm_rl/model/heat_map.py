"""A picture of a memory: how much every block of every layer remembers."""

from __future__ import annotations

import math

import numpy as np

from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel


def heat_map(model: WorldModel, memory: Memory) -> np.ndarray:
    """The memory of N rows as pictures (N, H, W, 3) uint8: a tile per layer, in it a field per block where it lies.

    Dark is empty. With r the root mean square of a block's state, the colour is that of r / (1 + r), a scale that is
    the same at every step, so the memory is seen to fill.
    """
    from matplotlib import colormaps

    H, W, _ = model.config.frame_shape
    columns = math.ceil(math.sqrt(len(memory.layers)))
    rows = math.ceil(len(memory.layers) / columns)
    values = np.zeros((memory.batch_size, H, W))
    layers = zip(memory.layers, memory.block_norms(), model.backbone.block_grids(), strict=True)
    for i, (layer, norms, (down, across)) in enumerate(layers):
        rms = (norms / math.sqrt(layer.state[0, 0].numel())).cpu().numpy()
        blocks = (rms / (1 + rms)).reshape(-1, down, across)
        # Whole pixels that leave no gaps, whatever the sizes: tiles of the picture, then blocks of a tile.
        y, x = divmod(i, columns)
        top, bottom, left, right = y * H // rows, (y + 1) * H // rows, x * W // columns, (x + 1) * W // columns
        of_row = np.arange(bottom - top) * down // (bottom - top)
        of_column = np.arange(right - left) * across // (right - left)
        values[:, top:bottom, left:right] = blocks[:, of_row[:, None], of_column]
    return (colormaps["inferno"](values)[..., :3] * 255).astype(np.uint8)
