"""Recollection: what a model knows of its history by parts that are never trained, and how its layers read it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.fast_weights import Expected, FastWeights, States
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.reservoir import Reservoir


class Recollected(NamedTuple):
    """Of frames (B, T, ...) or of one (B, ...), from all that came before each; None for parts that are not there."""

    tokens: Tensor | None
    """(..., h, w, D), added to embedded patches, noised or not."""
    picture: Tensor | None
    """(..., h, w, pixels), times the noise level added to predicted patches, see `FastWeights.recalled`."""


class Written(NamedTuple):
    """What frames leave behind."""

    reads: Tensor | None
    """(B, T, size) or (B, size), what heads read from the reservoir after each frame; None in models without one."""
    reservoir: States
    """This and the next are of the memory after the last frame."""
    fast_weights: States


class Recollection(nn.Module):
    """A reservoir, fast weights, both or neither; trained are only the layers that turn what they say into tokens."""

    def __init__(self, config: WorldModelConfig, pixels: int):
        """`pixels` of a patch, channels included."""
        super().__init__()
        width, grid = config.backbone.width, config.grid
        self.reservoir: Reservoir | None = None
        self.fast_weights: FastWeights | None = None
        self.size = config.reservoir.size
        if config.reservoir.blocks:
            self.reservoir = Reservoir(config.reservoir, pixels, grid)
            self.reads_in = nn.Linear(self.size, width)
        if config.fast_weights.size:
            sizes = config.fast_weights, width, pixels, grid
            self.fast_weights = FastWeights(*sizes, config.action_space, config.vector_size)

    def initial_state(self, batch_size: int) -> dict[str, States]:
        """Of a `Memory` of B rows that have seen nothing."""
        parts = {"reservoir": self.reservoir, "fast_weights": self.fast_weights}
        return {name: part.initial_state(batch_size) for name, part in parts.items() if part is not None}

    def forward(
        self, x: Tensor, actions: Tensor, none: Tensor, vectors: Tensor | None, memory: Memory
    ) -> tuple[Recollected, Written]:
        """Take in T frames.

        Args:
            x: clean patches (B, T, h, w, pixels).
            actions: (B, T[, A]), the action just before each frame.
            none: (B, T) bool, True where there was none.
            vectors: (B, T, V), or None for models without.
            memory: before the first frame.
        """
        tokens, picture, reads = None, None, None
        reservoir, fast_weights = memory.reservoir, memory.fast_weights
        if self.reservoir is not None:
            reads, reservoir = self.reservoir(x, reservoir)
            before = torch.cat([self._last(memory)[:, None].to(reads), reads[:, :-1]], dim=1)
            tokens = self._as_tokens(before)
        if self.fast_weights is not None:
            (recalled, picture), fast_weights = self.fast_weights(x, actions, none, vectors, fast_weights)
            tokens = recalled if tokens is None else tokens + recalled
        return Recollected(tokens, picture), Written(reads, reservoir, fast_weights)

    def after(
        self, memory: Memory, x: Tensor, actions: Tensor, none: Tensor, vectors: Tensor | None, mask: Tensor
    ) -> Memory:
        """A memory in whose recollection T more frames are, and nowhere else: what trained layers wrote of them stays
        unknown.

        Args:
            x, actions, none, vectors: as in `forward`.
            mask: (B, T) bool, False for padding in front of the real frames.
        """
        features, reservoir, fast_weights = memory.features, memory.reservoir, memory.fast_weights
        if self.reservoir is not None:
            reads, reservoir = self.reservoir(x, reservoir, mask)
            seen = torch.where(mask[:, -1:], reads[:, -1].to(features), self._last(memory))
            features = torch.cat([features[:, : -self.size], seen], dim=1)
        if self.fast_weights is not None:
            _, fast_weights = self.fast_weights(x, actions, none, vectors, fast_weights, mask)
        return replace(memory, features=features, reservoir=reservoir, fast_weights=fast_weights)

    def expect(
        self, action: Tensor, none: Tensor, vector: Tensor | None, memory: Memory
    ) -> tuple[Recollected, Expected | None]:
        """Of the one frame that follows a memory, and what `write` needs of it; arguments as `FastWeights.expect`."""
        tokens, picture, expected = None, None, None
        if self.reservoir is not None:
            tokens = self._as_tokens(self._last(memory))
        if self.fast_weights is not None:
            expected = self.fast_weights.expect(action, none, vector, memory.fast_weights)
            recalled, picture = self.fast_weights.recalled(expected)
            tokens = recalled if tokens is None else tokens + recalled
        return Recollected(tokens, picture), expected

    def write(
        self, expected: Expected | None, x: Tensor, reservoir: States, fast_weights: States, dreamt: bool
    ) -> Written:
        """That frame turned out to be, or was dreamt as, clean patches x (B, h, w, pixels); `expected` as `expect` gave
        it, and the states of the memory before it."""
        reads = None
        if self.reservoir is not None:
            reads, reservoir = self.reservoir(x[:, None], reservoir)
            reads = reads[:, 0]
        if self.fast_weights is not None and expected is not None:
            fast_weights = self.fast_weights.write(expected, x, fast_weights, dreamt)
        return Written(reads, reservoir, fast_weights)

    def _last(self, memory: Memory) -> Tensor:
        """(B, size), what was read after the last frame."""
        return memory.features[:, -self.size :]

    def _as_tokens(self, reads: Tensor) -> Tensor:
        """(..., size) -> (..., 1, 1, D), the same for all tokens of a frame."""
        return self.reads_in(reads.to(self.reads_in.weight.dtype))[..., None, None, :]
