"""A reservoir as the CPU kernels take it (`lssvwm_rl/native/reservoir.h`): it takes in a frame where that is dreamt."""

from __future__ import annotations

import torch
from torch import Tensor

from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.recollection import Recollection
from lssvwm_rl.model.reservoir import LARGEST, Reservoir
from lssvwm_rl.native.library import Kernels, address, pack_panels


class NativeReservoir:
    """A recollection's reservoir, if it has one, with the numbers that it had when this was made."""

    def __init__(self, recollection: Recollection, kernels: Kernels):
        self.sizes: list[int] = [0] * 5
        """Of `ReservoirSizes` in reservoir.h, with the sides of the scans' blocks."""
        self._kept: tuple[Tensor, ...] = ()
        self._net: list[int] = []
        self._scans: list[list[int]] = []
        reservoir = recollection.reservoir
        if reservoir is None:
            return
        config, reads_in = reservoir.config, recollection.reads_in
        count = len(config.blocks)
        encode, as_token = (
            pack_panels(kernels, reservoir.encode.t()),
            pack_panels(kernels, reads_in.weight.detach().t()),
        )
        fixed = (reservoir.encode_bias.clone(), reservoir.position.clone(), reservoir.decay.clone())
        net = (encode, *fixed, as_token, reads_in.bias.detach().clone())
        scans = [_scan(reservoir, i, kernels) for i in range(count)]
        self._kept = (*net, *(tensor for scan in scans for tensor in scan))
        self._net = [address(tensor) for tensor in net]
        self._scans = [[address(tensor) for tensor in scan] for scan in scans]
        self.sizes = [len(reservoir.encode), config.heads, config.head_size, config.reads, count]
        self.sizes += [side for i in range(count) for side in reservoir.sides(i)]

    def pointers(self, memory: Memory, after: Memory | None) -> list[Tensor | int | None]:
        """Of `ReservoirNet` and of every `ReservoirScan`.

        Args:
            memory: before the frame, contiguous and of the kernels' dtype.
            after: the memory after it, to be filled; None if nothing is to be written.
        """
        if not self._scans:
            return [None] * 7
        pointers: list[Tensor | int | None] = [*self._net, memory.features]
        new = (None,) * len(self._scans) if after is None else after.reservoir
        for scan, state, filled in zip(self._scans, memory.reservoir, new, strict=True):
            pointers += [*scan, state, filled]
        return pointers


def _scan(reservoir: Reservoir, i: int, kernels: Kernels) -> list[Tensor]:
    """Of `ReservoirScan`, from `weights` to `scale`."""
    weights = torch.cat([getattr(reservoir, f"x{i}"), getattr(reservoir, f"gate{i}")])
    own = slice(i * reservoir.config.reads, (i + 1) * reservoir.config.reads)
    mean, scale = reservoir.read_mean[own].clone(), reservoir.read_scale[own] / LARGEST
    query, project = getattr(reservoir, f"query{i}").clone(), getattr(reservoir, f"project{i}")
    return [pack_panels(kernels, weights.t()), query, pack_panels(kernels, project.t()), mean, scale]
