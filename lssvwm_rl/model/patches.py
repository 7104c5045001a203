"""Frames as grids of patches: uint8 pixels to numbers in [-1, 1] and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.precision import at_least_fp32


@dataclass(frozen=True)
class Patches:
    """How frames (H, W, C) are cut into a grid of h * w patches, one token each.

    Frames that the grid does not divide are padded below and to the right by repeating their last row and column, so
    that a frame alone decides its patches.
    """

    height: int
    """Pixels per patch, ceil(H / h)."""
    width: int
    """Pixels per patch, ceil(W / w)."""
    rows: int = 0
    """Of padding, h * height - H."""
    columns: int = 0
    """Of padding, w * width - W."""

    @classmethod
    def of(cls, config: WorldModelConfig) -> Patches:
        """Those of a model."""
        (H, W, _), (h, w), (rows, columns) = config.frame_shape, config.grid, config.padded_to
        return cls(rows // h, columns // w, rows - H, columns - W)

    @property
    def padded(self) -> bool:
        """Whether there is padding."""
        return bool(self.rows or self.columns)

    def pad(self, images: Tensor) -> Tensor:
        """Images (..., H, W, C) as large as the grid, (..., H', W', C)."""
        if not self.padded:
            return images
        H, W = images.shape[-3:-1]
        row, column = (torch.arange(n, device=images.device) for n in (H + self.rows, W + self.columns))
        return images[..., row.clamp(max=H - 1)[:, None], column.clamp(max=W - 1), :]

    def crop(self, images: Tensor) -> Tensor:
        """Inverse of `pad`."""
        if not self.padded:
            return images
        H, W = images.shape[-3:-1]
        return images[..., : H - self.rows, : W - self.columns, :].contiguous()

    def cut(self, images: Tensor) -> Tensor:
        """(..., H, W, C) -> (..., h, w, height * width * C), any dtype."""
        return rearrange(self.pad(images), "... (h p) (w q) c -> ... h w (p q c)", p=self.height, q=self.width)

    def cut_weights(self, weights: Tensor) -> Tensor:
        """Weights of pixels (..., H, W) -> (..., h, w, height * width), 0 for padding.

        The others are larger by the share of padding, so that means over all pixels are means over real ones.
        """
        H, W = weights.shape[-2:]
        rows, columns = H + self.rows, W + self.columns
        padded = weights.new_zeros(*weights.shape[:-2], rows, columns)
        padded[..., :H, :W] = weights * (rows * columns / (H * W))
        return rearrange(padded, "... (h p) (w q) -> ... h w (p q)", p=self.height, q=self.width)

    def from_frames(self, frames: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """uint8 (..., H, W, C) -> (..., h, w, pixels) in [-1, 1], of the model's dtype."""
        return self.cut(frames).to(dtype) / 127.5 - 1

    def to_frames(self, patches: Tensor) -> Tensor:
        """Inverse of `from_frames`, rounded and clamped."""
        pixels = ((at_least_fp32(patches) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return self.crop(rearrange(pixels, "... h w (p q c) -> ... (h p) (w q) c", p=self.height, q=self.width))
