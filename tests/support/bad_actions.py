"""Actions that are in no space of the worlds of `small_checkpoints`; Reacher has the same Box."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

BAD_ACTIONS: dict[str, tuple[list[Any], list[Any]]] = {
    "discrete": (
        ["left", 1.0, None, float("nan"), 3, -1, 10**30, [1], np.array([1]), [[1], [1, 2]], {}, torch.tensor(1)],
        ["left", 1, None, [1.0, 1.0], [0, 3], [0, -1], [0], [0, 0, 0], [[0, 0]], [[0], [0]], [None, 0], [[0], [0, 1]]],
    ),
    "multi_discrete": (
        ["left", 1, None, [1.0, 1.0], [3, 0], [0, 2], [-1, 0], [1], [1, 1, 1], [[1, 1]], [None, 1], [[1], [1, 2]]],
        ["left", None, [1, 1], [[1, 1]], [[1, 1], [3, 0]], [[1.0, 1.0], [1.0, 1.0]], [[1, 1], [1]]],
    ),
    "box": (
        ["left", 0.5, None, [0.1], [[0.1, 0.2]], [1.5, 0], [2, 0], np.array([np.nan, 0]), [np.inf, 0], [1e300, 0],
         [None, 0.0], np.array(["0.1", "0.2"]), np.array([1j, 0]), np.array([0.1, 0.2], object), [[0.1], [0.1, 0.2]]],
        ["left", None, [0.1, 0.2], [[0.1, 0.2]], np.full((2, 2), np.nan), np.full((2, 2), -1.1), [[0.1], [0.1, 0.2]]],
    ),
}  # fmt: skip
"""World -> for one environment, and for a vector of two."""
