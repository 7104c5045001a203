"""Checks of what is given to a world model."""

from __future__ import annotations

import torch
from torch import Tensor

from lssvwm_rl.model.config import WorldModelConfig


def check_clip(config: WorldModelConfig, rows: int, frames: Tensor, actions: Tensor) -> None:
    """Raise ValueError unless frames (B, T, H, W, C) and actions (B, T[, A]) fit a model and a memory of B rows."""
    if tuple(frames.shape[2:]) != config.frame_shape or frames.dtype != torch.uint8:
        got = f"{tuple(frames.shape[2:])} {frames.dtype}"
        raise ValueError(f"Frames of {got} do not fit the model, which takes {config.frame_shape} torch.uint8.")
    if frames.shape[:2] != actions.shape[:2] or len(frames) != rows:
        raise ValueError(
            f"Frames {tuple(frames.shape[:2])}, actions {tuple(actions.shape[:2])} and a memory of "
            f"{rows} rows do not agree; give (B, T) of both with the memory's B."
        )
