"""A reservoir's step on CPU kernels (`lssvwm_rl/native/reservoir.cpp`): `Reservoir.forward` of one frame."""

from __future__ import annotations

import torch
from torch import Tensor

from lssvwm_rl.model.reservoir import LARGEST, Reservoir
from lssvwm_rl.native.library import Kernels, address, pack_panels


class NativeReservoir:
    """Runs a reservoir with the numbers that it had when this was made.

    Args:
        patch: (height, width) of a patch in pixels.
        channels: C.
    """

    def __init__(self, reservoir: Reservoir, patch: tuple[int, int], channels: int, kernels: Kernels):
        config, dtype = reservoir.config, reservoir.embed.dtype
        self._kernels, self._dtype, self._config = kernels, dtype, config
        position = (reservoir.position + reservoir.embed_bias).contiguous()
        net = (pack_panels(kernels, reservoir.embed.t()), position, reservoir.decay.contiguous())
        scans = [_scan(reservoir, i, kernels) for i in range(len(config.blocks))]
        self._kept = (*net, *(tensor for scan in scans for tensor in scan))
        self._net = [address(tensor) for tensor in net]
        self._scans = [[address(tensor) for tensor in scan] for scan in scans]
        self._sizes = [*reservoir.grid, *patch, channels, config.width, config.heads, config.head_size, config.reads]
        self._sides = [side for i in range(len(config.blocks)) for side in reservoir.sides(i)]

    def take_in(self, frames: Tensor, states: tuple[Tensor, ...], features: Tensor) -> tuple[Tensor, ...]:
        """One more frame of every row.

        Args:
            frames: (B, H, W, C) uint8.
            states: before it.
            features: (B, R), in whose last columns is put what is read.

        Returns:
            The states after it.
        """
        states = tuple(state.to(self._dtype).contiguous() for state in states)
        after = tuple(torch.empty_like(state) for state in states)
        pointers: list[Tensor | int | None] = [frames, *self._net, features]
        for scan, old, new in zip(self._scans, states, after, strict=True):
            pointers += [*scan, old, new]
        size = self._config.size
        sizes = [len(frames), *self._sizes, len(after), features.shape[1], features.shape[1] - size, *self._sides]
        self._kernels("reservoir", self._dtype, sizes, pointers)
        return after


def _scan(reservoir: Reservoir, i: int, kernels: Kernels) -> list[Tensor]:
    """Of `Scan` in reservoir.cpp, from `weights` to `scale`."""
    weights = torch.cat([getattr(reservoir, f"x{i}"), getattr(reservoir, f"gate{i}")])
    own = slice(i * reservoir.config.reads, (i + 1) * reservoir.config.reads)
    mean, scale = reservoir.read_mean[own].clone(), reservoir.read_scale[own] / LARGEST
    query, project = getattr(reservoir, f"query{i}").contiguous(), getattr(reservoir, f"project{i}")
    return [pack_panels(kernels, weights.t()), query, pack_panels(kernels, project.t()), mean, scale]
