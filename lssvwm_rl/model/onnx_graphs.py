"""A world model as two functions of a fixed number of tensors, of fixed shapes: what ONNX graphs are made of.

`step` dreams a frame and commits it, `commit` takes in a real one. Both read a memory and give the next one, tensor by
tensor, in the order of `memory_names`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.passes import Dreamt, commit, dream, inputs_of
from lssvwm_rl.model.prepared import Prepared, prepare
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.spaces import space_from_json

AFTER = "after."  # before the name of a memory's tensor where it is an output
SAID = ("rewards", "terminated", "doubt")  # outputs of both graphs


class Graph(NamedTuple):
    """One function of tensors."""

    module: nn.Module
    inputs: dict[str, Tensor]
    """Name -> an example, in the order of the arguments."""
    outputs: tuple[str, ...]
    """Names, in the order of the results."""


def graphs(model: WorldModel, batch_size: int = 1, denoise_steps: int = 4) -> dict[str, Graph]:
    """The graphs "step" and "commit" of a model.

    Inputs are the memory's tensors, the action int64 (B,), or (B, A) of the space's dtype, and then

    - of "step" the noise, standard normal, of the shape that `WorldModel.draw_noise` gives: outputs are the frame
      (B, H, W, C) uint8, the vector (B, V) of models that have vectors, the `SAID` of `Imagined`, and the memory;
    - of "commit" the frame, and the vector of models that have vectors: outputs are the `SAID` and the memory.

    Raises:
        ValueError: for a `causal` model, or sizes below 1.
    """
    if model.config.backbone.kind == "causal":
        raise ValueError(
            "A causal model's memory grows with every frame, and ONNX graphs are of fixed shapes; export a model of "
            "another kind, or --format safetensors."
        )
    if batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {batch_size}.")
    weights, memory = prepare(model, denoise_steps), model.initial_memory(batch_size)
    names, config = memory_names(memory), model.config
    state = {name: memory.tensors()[name] for name in names} | {"action": example_action(config, batch_size)}
    noise = {"noise": model.draw_noise([torch.Generator().manual_seed(i) for i in range(batch_size)])}
    frame = {"frame": torch.zeros(batch_size, *config.frame_shape, dtype=torch.uint8)}
    vector = {"vector": torch.zeros(batch_size, config.vector_size)} if config.vector_size else {}
    after = tuple(AFTER + name for name in names)
    return {
        "step": Graph(_Step(weights, memory), state | noise, ("frame", *vector, *SAID, *after)),
        "commit": Graph(_Commit(weights, memory), state | frame | vector, (*SAID, *after)),
    }


def memory_names(memory: Memory) -> tuple[str, ...]:
    """Of the tensors that hold something; a kind lacks some parts."""
    return tuple(name for name, tensor in memory.tensors().items() if tensor.numel())


def example_action(config: WorldModelConfig, batch_size: int, seed: int = 0) -> Tensor:
    """Some action of every row, (B,) int64 or (B, A)."""
    space = space_from_json(config.action_space)
    space.seed(seed)
    return torch.stack([torch.as_tensor(space.sample()) for _ in range(batch_size)])


class _Graph(nn.Module):
    """What both have in common.

    Args:
        like: a memory that has the tensors that are never read, since they are empty.
    """

    def __init__(self, weights: Prepared, like: Memory):
        super().__init__()
        self.weights, self.like = weights, like.tensors()
        self.names = memory_names(like)
        self.model = weights.model

    def _read(self, tensors: tuple[Tensor, ...]) -> Memory:
        return Memory.from_tensors({**self.like, **dict(zip(self.names, tensors, strict=True))})

    def _said(self, memory: Memory, dreamt: Dreamt) -> tuple[Tensor, ...]:
        features, frames = dreamt.features, memory.frames + 1
        after = Memory(dreamt.layers, features, frames, dreamt.reservoir, dreamt.fast_weights).tensors()
        return (dreamt.rewards, dreamt.terminated, dreamt.doubt, *(after[name] for name in self.names))


class _Step(_Graph):
    """Memory, action and noise -> a dreamt frame."""

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        *state, action, noise = tensors
        memory = self._read(tuple(state))
        vector = self.model.next_vector(memory, action) if self.model.config.vector_size else None
        dreamt = dream(self.weights, inputs_of(self.weights, memory, action, noise, vector))
        return (dreamt.frame, *(() if vector is None else (vector,)), *self._said(memory, dreamt))


class _Commit(_Graph):
    """Memory, action and a real frame, with its vector -> what is said of it."""

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        count = len(self.names)
        memory, action, frame = self._read(tensors[:count]), tensors[count], tensors[count + 1]
        vector = tensors[count + 2] if self.model.config.vector_size else None
        inputs = inputs_of(self.weights, memory, action, frame, vector)  # no noise is read
        return self._said(memory, commit(self.weights, inputs, frame))
