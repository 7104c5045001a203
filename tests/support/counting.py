"""An engine that counts what it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lssvwm_rl.model.engine import Noise, make_engine
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.outputs import Imagined, Prediction
from lssvwm_rl.model.world_model import WorldModel


class CountingEngine:
    """Another engine, with the number of rows of every imagined step and of all noise drawn."""

    def __init__(self, model: WorldModel, name: str = "torch"):
        self.engine, self.model, self.name = make_engine(model, name), model, name
        self.rows: list[int] = []
        self.drawn = 0

    def draw(self, generators: Sequence[torch.Generator]) -> Tensor:
        self.drawn += len(generators)
        return self.engine.draw(generators)

    def imagine(
        self, memory: Memory, action: Tensor, noise: Noise, denoise_steps: int = 4, vector: Tensor | None = None
    ) -> Imagined:
        self.rows.append(memory.batch_size)
        return self.engine.imagine(memory, action, noise, denoise_steps, vector)

    def denoise(
        self, memory: Memory, action: Tensor, noise: Noise, denoise_steps: int = 4, vector: Tensor | None = None
    ) -> Tensor:
        return self.engine.denoise(memory, action, noise, denoise_steps, vector)

    def observe(
        self, memory: Memory, frames: Tensor, actions: Tensor, vectors: Tensor | None = None
    ) -> tuple[Memory, Prediction]:
        return self.engine.observe(memory, frames, actions, vectors)
