"""What a maze looks like: colours and textures."""

from __future__ import annotations

import numpy as np

OBJECT_NAMES = ("red", "green", "blue", "purple", "yellow", "cyan")
OBJECT_COLORS = np.array(
    [(220, 40, 40), (40, 190, 60), (50, 80, 230), (170, 50, 200), (235, 215, 40), (40, 210, 220)], np.uint8
)
WALL_COLORS = np.array(
    [
        (160, 82, 62),
        (196, 174, 116),
        (92, 106, 134),
        (96, 132, 74),
        (78, 136, 136),
        (148, 100, 146),
        (214, 212, 204),
        (92, 70, 52),
    ],
    np.float64,
)
FLOOR_COLORS = np.array([(122, 118, 112), (150, 132, 104), (104, 122, 138), (116, 138, 112)], np.float64)
SKY_TOP, SKY_HORIZON = np.array([86.0, 140.0, 200.0]), np.array([196.0, 216.0, 232.0])
WALL_TEXELS, FLOOR_TEXELS = 8, 4  # per cell and side


def wall_textures() -> np.ndarray:
    """(styles, 8, 8, 3) float64, rows from the top: bricks, panels, stripes and chequers in turn."""
    y, x = np.mgrid[:WALL_TEXELS, :WALL_TEXELS]
    bricks = np.where((y % 2 == 0) | ((x + 2 * (y // 2 % 2)) % 4 == 0), 0.75, 1.0)
    panels = np.where((x % 7 == 0) | (y % 7 == 0), 0.7, 1.0)
    stripes = np.where(x // 2 % 2 == 0, 0.8, 1.0)
    chequers = np.where((x // 2 + y // 2) % 2 == 0, 0.8, 1.0)
    patterns = np.stack([bricks, panels, stripes, chequers])
    chosen = patterns[np.arange(len(WALL_COLORS)) % len(patterns)]
    return chosen[..., None] * WALL_COLORS[:, None, None]


def floor_textures() -> np.ndarray:
    """(styles, 4, 4, 3) float64: tiles, each style's chequers of another strength."""
    y, x = np.mgrid[:FLOOR_TEXELS, :FLOOR_TEXELS]
    dark = 1 - 0.06 * (1 + np.arange(len(FLOOR_COLORS)))[:, None, None] * ((x // 2 + y // 2) % 2 == 0)
    return dark[..., None] * FLOOR_COLORS[:, None, None]
