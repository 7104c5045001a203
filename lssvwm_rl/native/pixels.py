"""Frames of uint8 against patches: cutting them, counting their colours, and the error of predicted ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lssvwm_rl.native.library import Kernels

LEVEL_BITS = 3
"""Of every channel in the number of a colour, its highest ones."""


class Shown(NamedTuple):
    """Which frames patches are of, M of them."""

    frames: Tensor
    """(F, H, W, C) uint8."""
    patch: tuple[int, int]
    """Pixels per patch, down and across."""
    which: Tensor | None = None
    """(M,) int64 into the frames; all of them in order if None."""
    visible: Tensor | None = None
    """(M, H, W) bool, pixels of which something is shown; None for all."""

    @property
    def grid_shape(self) -> tuple[int, int, int, int]:
        """(M, h, w, pixels * C) of the patches."""
        _, H, W, C = self.frames.shape
        (p, q), count = self.patch, len(self.frames) if self.which is None else len(self.which)
        return count, H // p, W // q, p * q * C

    @property
    def sizes(self) -> tuple[int, ...]:
        """What the kernels ask for."""
        return *self.grid_shape[:3], *self.patch, self.frames.shape[3]

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """What the kernels read first."""
        return self.frames, self.which, self.visible


def cut_patches(kernels: Kernels, shown: Shown, dtype: torch.dtype) -> Tensor:
    """Patches (M, h, w, pixels * C) in [-1, 1] of the frames, 0 where pixels are not visible."""
    patches = torch.empty(shown.grid_shape, dtype=dtype)
    kernels("cut_patches", dtype, shown.sizes, (*shown.tensors, patches))
    return patches


def count_colours(kernels: Kernels, frames: Tensor, counted: Tensor) -> Tensor:
    """How often every colour is in those frames (F, H, W, C) where `counted` (F,) is True: (8 ** C,) int64.

    A colour's number is made of the three highest bits of its channels.
    """
    counts = torch.empty(1 << (LEVEL_BITS * frames.shape[3]), dtype=torch.int64)
    kernels("count_colours", torch.float32, Shown(frames, (1, 1)).sizes, (frames, counted, counts))
    return counts


def pixel_error(kernels: Kernels, predicted: Tensor, shown: Shown, roots: Tensor) -> Tensor:
    """Mean over a frame's numbers of (root * (predicted - pixel)) ** 2, where pixels that are visible count as right.

    Args:
        predicted: (M, h, w, pixels * C) float32, float64 or bfloat16.
        shown: the frames; without a mask all pixels count.
        roots: (8 ** C,) square root of every colour's weight, of predicted's dtype but at least float32.

    Returns:
        (M,), as the roots; gradients pass to `predicted`.
    """
    return _PixelError.apply(kernels, predicted, shown, roots)


class _PixelError(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: Kernels, predicted: Tensor, shown: Shown, roots: Tensor) -> Tensor:
        predicted = predicted.contiguous()
        errors = roots.new_empty(len(predicted))
        kernels("pixel_error_forward", predicted.dtype, shown.sizes, (*shown.tensors, roots, predicted, errors))
        ctx.save_for_backward(predicted, roots)
        ctx.kernels, ctx.shown = kernels, shown
        return errors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, derrors: Tensor) -> tuple[Tensor | None, ...]:
        predicted, roots = ctx.saved_tensors
        dpredicted = torch.empty_like(predicted)
        pointers = (*ctx.shown.tensors, roots, predicted, derrors.contiguous(), dpredicted)
        ctx.kernels("pixel_error_backward", predicted.dtype, ctx.shown.sizes, pointers)
        return None, dpredicted, None, None
