"""Fast weights as the CPU kernels take them (`lssvwm_rl/native/fast_weights.h`): recalled and written where a frame is
dreamt."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from lssvwm_rl.model.fast_weights import DRIFT, LIKE, NOISE, FastWeights
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.native.library import Kernels, address, pack_panels

POINTERS = 18  # of `FastNet`


class NativeFastWeights:
    """Fast weights, if there are any, with the numbers that they had when this was made.

    Args:
        fast: of the model.
        embed: (pixels, D), by which the model embeds patches.
        action_space: as `lssvwm_rl.spaces.space_to_json` writes it.
    """

    def __init__(self, fast: FastWeights | None, embed: Tensor, action_space: dict[str, Any], kernels: Kernels):
        self.sizes: list[int] = [0] * 6
        """Of `FastSizes` in fast_weights.h."""
        self._fast = fast
        if fast is None:
            return
        discrete = action_space["type"] == "Discrete"
        actions, start = (action_space["n"], action_space["start"]) if discrete else (0, 0)
        self.sizes = [fast.keys, fast.config.size, fast.P, fast.from_vector.shape[1], actions, start]
        self._discrete = discrete
        settings = torch.tensor([NOISE, DRIFT, LIKE], dtype=fast.mean.dtype)
        self._kept = (settings, _table(fast, actions), *_weights(fast, embed, kernels))
        self._settings, self._table, *self._weights = (address(tensor) for tensor in self._kept)

    def pointers(
        self, memory: Memory, action: Tensor, vector: Tensor | None, after: Memory | None
    ) -> list[Tensor | int | None]:
        """Of `FastNet`.

        Args:
            memory: before the frame, contiguous and of the kernels' dtype.
            action: (B,) or (B, A).
            vector: (B, V) of the frame, or None for models without.
            after: the memory after it, to be filled; None if nothing is to be written.
        """
        if self._fast is None:
            return [None] * POINTERS
        angles: list[Tensor | int | None]
        if self._discrete:
            angles = [self._table, action.to(torch.int64).contiguous()]
        else:
            angles = [self._fast.action(action[:, None], memory.frames[:, None] == 0)[:, 0].contiguous(), None]
        written = (None,) * 3 if after is None else after.fast_weights
        return [self._settings, *angles, vector, *self._weights, *memory.fast_weights, *written]


def _table(fast: FastWeights, actions: int) -> Tensor:
    """What each action of a Discrete space adds to angles, and last what none does, (actions + 1, N / 2)."""
    own = [cast(Tensor, fast.action.embed.weight)] if actions else []
    return torch.cat([*own, fast.action.null[None]]).detach()


def _weights(fast: FastWeights, embed: Tensor, kernels: Kernels) -> tuple[Tensor, ...]:
    """Of `FastNet` from `from_frame` to `decode`."""
    exact = fast.encode.double()
    decode = exact / exact.square().sum(dim=1, keepdim=True)  # (P, pixels)

    def pack(weight: Tensor) -> Tensor:
        return pack_panels(kernels, weight.detach().to(fast.encode.dtype))

    return (
        pack(fast.from_frame.t()),
        pack(fast.from_vector.t()),
        pack(fast.encode.t()),
        -(fast.encode @ fast.mean),
        pack(fast.read.weight.t()),
        fast.read.bias.detach().clone(),
        pack(decode @ embed.double()),
        pack(decode),
    )
