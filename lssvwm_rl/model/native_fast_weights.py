"""Fast weights as the CPU kernels take them (`lssvwm_rl/native/fast_weights.h`): recalled and written where a frame is
dreamt."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from lssvwm_rl.model.conditioning import ActionEmbedding
from lssvwm_rl.model.fast_weights import DRIFT, LIKE, NOISE, FastWeights
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.native.library import Kernels, address, pack_panels


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
        self._action: ActionEmbedding | None = None
        """Embeds actions of spaces that are not Discrete."""
        self._kept: tuple[Tensor, ...] = ()
        if fast is None:
            return
        actions, start = 0, 0
        if action_space["type"] == "Discrete":
            actions, start = action_space["n"], action_space["start"]
        else:
            self._action = fast.action
        self.sizes = [fast.keys, fast.config.size, fast.P, fast.from_vector.shape[1], actions, start]
        self._kept = (*_tables(fast, actions), *_weights(fast, embed, kernels))
        self._addresses = [address(tensor) for tensor in self._kept]

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
        if not self._kept:
            return [None] * 18
        settings, table, *weights = self._addresses
        angles: Tensor | int = table
        index: Tensor | None = None
        if self._action is None:
            index = action.to(torch.int64).contiguous()
        else:
            angles = self._action(action[:, None], memory.frames[:, None] == 0)[:, 0].contiguous()
        written = (None,) * 3 if after is None else after.fast_weights
        return [settings, angles, index, vector, *weights, *memory.fast_weights, *written]


def _tables(fast: FastWeights, actions: int) -> tuple[Tensor, Tensor]:
    """`settings` of `FastNet`, and `angles` of a Discrete space of so many actions."""
    settings = torch.tensor([NOISE, DRIFT, LIKE], dtype=fast.mean.dtype)
    if not actions:
        return settings, fast.action.null.detach().clone()
    weight = cast(Tensor, fast.action.embed.weight)
    return settings, torch.cat([weight, fast.action.null[None]]).detach()


def _weights(fast: FastWeights, embed: Tensor, kernels: Kernels) -> tuple[Tensor, ...]:
    """Of `FastNet` from `from_frame` to `decode`."""
    encode = fast.encode.double()
    decode = encode / encode.square().sum(dim=1, keepdim=True)  # (P, pixels)
    dtype = fast.encode.dtype

    def pack(weight: Tensor) -> Tensor:
        return pack_panels(kernels, weight.detach().to(dtype))

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
