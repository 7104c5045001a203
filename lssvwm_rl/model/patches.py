"""Frames as grids of patches: uint8 pixels to numbers in [-1, 1] and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from lssvwm_rl.model.precision import at_least_fp32


@dataclass(frozen=True)
class Patches:
    """How frames (H, W, C) are cut into a grid of h * w patches, one token each."""

    height: int
    """Pixels per patch, H / h."""
    width: int
    """Pixels per patch, W / w."""

    def cut(self, images: Tensor) -> Tensor:
        """(..., H, W, C) -> (..., h, w, height * width * C), any dtype."""
        return rearrange(images, "... (h p) (w q) c -> ... h w (p q c)", p=self.height, q=self.width)

    def from_frames(self, frames: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """uint8 (..., H, W, C) -> (..., h, w, pixels) in [-1, 1], of the model's dtype."""
        return self.cut(frames).to(dtype) / 127.5 - 1

    def to_frames(self, patches: Tensor) -> Tensor:
        """Inverse of `from_frames`, rounded and clamped."""
        pixels = ((at_least_fp32(patches) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return rearrange(pixels, "... h w (p q c) -> ... (h p) (w q) c", p=self.height, q=self.width)
