"""TorchEngine: dreams in plain PyTorch on every device, by the passes of `passes`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lssvwm_rl.model.flow import Noise
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.outputs import Imagined, Prediction
from lssvwm_rl.model.passes import Inputs, denoise, dream, inputs_of
from lssvwm_rl.model.prepared import Prepared, prepare
from lssvwm_rl.model.world_model import WorldModel


class TorchEngine:
    """See `engine.Engine`.

    Args:
        model: a `causal` one is run as it is: it has nothing to prepare.
        compiled: makes a faster function of `passes.dream` and `passes.denoise`; None leaves them as they are.
    """

    name = "torch"

    def __init__(self, model: WorldModel, compiled: Callable[[Callable], Callable] | None = None):
        self.model = model
        self._dream = dream if compiled is None else compiled(dream)
        self._denoise = denoise if compiled is None else compiled(denoise)
        self._prepared: dict[int, Prepared] = {}

    def draw(self, generators: Noise) -> Tensor:
        """As `WorldModel.draw_noise`."""
        return self.model.draw_noise(generators)

    @torch.no_grad()
    def imagine(
        self, memory: Memory, action: Tensor, noise: Noise, denoise_steps: int = 4, vector: Tensor | None = None
    ) -> Imagined:
        """As `WorldModel.imagine`."""
        model = self.model
        if model.config.backbone.kind == "causal":
            return model.imagine(memory, action, noise, denoise_steps, vector)
        vector = self._vector(memory, action, vector)
        prepared = self._prepare(denoise_steps)
        dreamt = self._dream(prepared, self._inputs(prepared, memory, action, noise, vector))
        after = Memory(dreamt.layers, dreamt.features, memory.frames + 1, dreamt.reservoir, dreamt.fast_weights)
        return Imagined(dreamt.frame, vector, dreamt.rewards, dreamt.terminated, after, dreamt.doubt)

    @torch.no_grad()
    def denoise(
        self, memory: Memory, action: Tensor, noise: Noise, denoise_steps: int = 4, vector: Tensor | None = None
    ) -> Tensor:
        """The frame (B, H, W, C) uint8 of `imagine` alone, with nothing committed."""
        vector = self._vector(memory, action, vector)
        if self.model.config.backbone.kind == "causal":
            vectors = None if vector is None else vector[:, None]
            return self.model.imagine_frame(memory, action, vectors, noise, denoise_steps)
        prepared = self._prepare(denoise_steps)
        return self._denoise(prepared, self._inputs(prepared, memory, action, noise, vector))

    def observe(
        self, memory: Memory, frames: Tensor, actions: Tensor, vectors: Tensor | None = None
    ) -> tuple[Memory, Prediction]:
        """As `WorldModel.observe`."""
        return self.model.observe(memory, frames, actions, vectors)

    def _vector(self, memory: Memory, action: Tensor, vector: Tensor | None) -> Tensor | None:
        """(B, V) of the frame, predicted if it is not given; None for models without vectors."""
        if not self.model.config.vector_size:
            return None
        return self.model.next_vector(memory, action) if vector is None else vector

    def _prepare(self, denoise_steps: int) -> Prepared:
        if denoise_steps not in self._prepared:
            made = next(iter(self._prepared.values()), None)
            self._prepared[denoise_steps] = (
                prepare(self.model, denoise_steps) if made is None else made.with_steps(denoise_steps)
            )
        return self._prepared[denoise_steps]

    def _inputs(
        self, prepared: Prepared, memory: Memory, action: Tensor, noise: Noise, vector: Tensor | None
    ) -> Inputs:
        drawn = self.draw(noise)
        if len(drawn) != memory.batch_size:
            raise ValueError(f"The noise of {len(drawn)} rows is not that of {memory.batch_size}; give each row one.")
        return inputs_of(prepared, memory, action, drawn, vector)
