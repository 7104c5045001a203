"""Errors of predicted frames, every pixel counting by how rare its colour is: in PyTorch, or by kernels on a CPU."""

from __future__ import annotations

import functools

from torch import Tensor

from lssvwm_rl.model.backends import native_kernels
from lssvwm_rl.model.precision import at_least_fp32
from lssvwm_rl.native.pixels import Shown, count_colours, cut_patches, pixel_error
from lssvwm_rl.training.noise import Clip, colour_weight, over_tau, rarity_weight, velocity_loss, weighted_error


class FrameErrors:
    """What predicted patches of a clip are compared with.

    Args:
        clip: whose frames they are; padding has no part in how rare a colour is.
        power: of the rarity, see `noise.rarity_weight`.
        floor: of the noise levels that errors are divided by, see `noise.velocity_loss`.
    """

    def __init__(self, clip: Clip, power: float, floor: float):
        self._clip, self._power, self._floor = clip, power, floor
        self._kernels = native_kernels(clip.model.config.backbone.backend, clip.x, clip.batch.frames)
        if clip.model.patches.padded:  # which has no part in errors; the kernels know none
            self._kernels = None

    def velocity_loss(self, predicted: Tensor, target: Tensor, tau: Tensor) -> Tensor:
        """(B, T), see `noise.velocity_loss`, from patches (B, T, h, w, pixels * C) and their targets."""
        # Only the clip's own patches are known to be its frames.
        if self._kernels is None or target is not self._clip.x or not self._fit(predicted):
            return velocity_loss(predicted, target, tau, self._weight, self._floor)
        error = pixel_error(self._kernels, predicted.flatten(0, 1), self._shown, self._roots)
        return over_tau(error.view(tau.shape), tau, self._floor)

    def masked(self, rows: Tensor, steps: Tensor, visible: Tensor) -> Tensor:
        """Patches (M, h, w, pixels * C) of some frames, of which something is hidden.

        Args:
            rows, steps: (M,) int64, which frames.
            visible: (M, H, W) bool; hidden pixels are mid-grey, which is 0 in [-1, 1].
        """
        if self._kernels is not None:
            return cut_patches(self._kernels, self._part(rows, steps, visible), self._clip.x.dtype)
        seen = self._clip.model.patches.cut(visible[..., None])
        patches = self._clip.x[rows, steps]
        return (patches.unflatten(-1, (seen.shape[-1], -1)) * seen[..., None]).flatten(-2)

    def hidden_error(self, predicted: Tensor, rows: Tensor, steps: Tensor, visible: Tensor) -> Tensor:
        """(M,) errors of patches (M, h, w, pixels * C) where `masked` hides them."""
        if self._kernels is not None and self._fit(predicted):
            return pixel_error(self._kernels, predicted, self._part(rows, steps, visible), self._roots)
        seen = self._clip.model.patches.cut(visible[..., None])
        return weighted_error(predicted, self._clip.x[rows, steps], self._weight[rows, steps] * ~seen)

    def _fit(self, predicted: Tensor) -> bool:
        """Whether the kernels compute with such predictions in the precision of the clip's patches."""
        return at_least_fp32(predicted).dtype == self._clip.x.dtype

    @functools.cached_property
    def _weight(self) -> Tensor:
        """Of every pixel, (B, T, h, w, pixels)."""
        batch = self._clip.batch
        return self._clip.model.patches.cut_weights(rarity_weight(batch.frames, batch.mask, self._power))

    @functools.cached_property
    def _roots(self) -> Tensor:
        """(8 ** C,) root of the weight of every colour."""
        assert self._kernels is not None
        counts = count_colours(self._kernels, self._shown.frames, self._clip.batch.mask.flatten())
        return colour_weight(counts, self._power).sqrt().to(self._clip.x.dtype)

    @functools.cached_property
    def _shown(self) -> Shown:
        patches = self._clip.model.patches
        return Shown(self._clip.batch.frames.flatten(0, 1).contiguous(), (patches.height, patches.width))

    def _part(self, rows: Tensor, steps: Tensor, visible: Tensor) -> Shown:
        which = rows * self._clip.batch.mask.shape[1] + steps
        return self._shown._replace(which=which, visible=visible.contiguous())
