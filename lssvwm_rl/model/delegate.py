"""Temporary: the engine "torch", until the others are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lssvwm_rl.model.compiled import compile_dreaming
from lssvwm_rl.model.engine import ENGINES, Engine, Noise
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import Imagined, Prediction, WorldModel


class _Delegate:
    def __init__(self, model: WorldModel, name: str):
        self.model, self.name = model, name

    def draw(self, generators: Sequence[torch.Generator]) -> Tensor:
        shape = (*self.model.config.grid, self.model.patch_in.in_features)
        noise = torch.stack([torch.randn(shape, generator=g, device=g.device) for g in generators])
        return noise.to(self.model.position)

    def imagine(
        self, memory: Memory, action: Tensor, noise: Noise, denoise_steps: int = 4, vector: Tensor | None = None
    ) -> Imagined:
        return self.model.imagine(memory, action, noise, denoise_steps)  # type: ignore[arg-type]

    def denoise(
        self, memory: Memory, action: Tensor, noise: Noise, denoise_steps: int = 4, vector: Tensor | None = None
    ) -> Tensor:
        return self.model.imagine(memory, action, noise, denoise_steps).frame  # type: ignore[arg-type]

    def observe(
        self, memory: Memory, frames: Tensor, actions: Tensor, vectors: Tensor | None = None
    ) -> tuple[Memory, Prediction]:
        return self.model.observe(memory, frames, actions, vectors)


def make_engine(model: WorldModel, name: str = "auto") -> Engine:
    if name not in ENGINES:
        raise ValueError(f"Engine {name!r} is unknown; use one of {', '.join(ENGINES)}.")
    return _Delegate(compile_dreaming(model) if name == "compiled" else model, "torch" if name == "auto" else name)


def load_engine(name: str | Path, device: str = "cpu", engine: str = "auto") -> Engine:
    return make_engine(WorldModel.from_pretrained(name).to(device), engine)
