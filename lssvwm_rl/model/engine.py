"""Engines: what runs a world model that is not being trained. All of them compute one function, some of them faster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import Imagined, Prediction, WorldModel

ENGINES = ("auto", "torch", "compiled", "native")

Noise = Sequence[torch.Generator] | Tensor
"""One generator per row, or what `Engine.draw` made of them, which several calls may share."""


class Engine(Protocol):
    """Runs a world model with the weights that it had when the engine was made.

    Memories, states and seeds mean the same in every engine: frames agree within one grey level, and within one engine
    the same call gives the same bits.
    """

    name: str
    """One of `ENGINES`."""
    model: WorldModel
    """Whose sizes and heads it is; its weights are not read again."""

    def draw(self, generators: Sequence[torch.Generator]) -> Tensor:
        """The noise (B, ...) of one frame, each row from its own generator."""

    def imagine(
        self, memory: Memory, action: Tensor, noise: Noise, denoise_steps: int = 4, vector: Tensor | None = None
    ) -> Imagined:
        """As `WorldModel.imagine`; the frame's vector (B, V) may be given."""

    def denoise(
        self, memory: Memory, action: Tensor, noise: Noise, denoise_steps: int = 4, vector: Tensor | None = None
    ) -> Tensor:
        """The frame (B, H, W, C) uint8 of `imagine` alone, with nothing committed."""

    def observe(
        self, memory: Memory, frames: Tensor, actions: Tensor, vectors: Tensor | None = None
    ) -> tuple[Memory, Prediction]:
        """As `WorldModel.observe`."""
