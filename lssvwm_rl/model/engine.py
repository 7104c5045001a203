"""Engines: what runs a world model that is not being trained. All of them compute one function, some of them faster."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor

from lssvwm_rl.model.compiled_engine import CompiledEngine
from lssvwm_rl.model.flow import Noise
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.native_engine import NativeEngine, native_takes
from lssvwm_rl.model.outputs import Imagined, Prediction
from lssvwm_rl.model.torch_engine import TorchEngine
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.native.library import load_kernels

MAKERS: dict[str, Callable[[WorldModel], Engine]] = {
    "torch": TorchEngine,
    "compiled": CompiledEngine,
    "native": NativeEngine,
    "native-bf16": partial(NativeEngine, bf16=True),
}
ENGINES = ("auto", *MAKERS)


class Engine(Protocol):
    """Runs a world model with the weights that it had when the engine was made.

    Memories, states and seeds mean the same in every engine: frames agree within one grey level, and within one engine
    the same call gives the same bits. "native-bf16" alone has coarser products: most of its pixels agree so, too, but
    long dreams may take another turn.
    """

    name: str
    """One of `ENGINES`."""
    model: WorldModel
    """Whose weights it has; once they change, make another engine."""

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


def make_engine(model: WorldModel, engine: str = "auto") -> Engine:
    """What runs a model, with the weights that it has now.

    Args:
        engine: a name in `ENGINES`. "auto" is "native" on a CPU where the kernels can be compiled and know the model,
            "compiled" on CUDA where torch.compile works, else "torch". One that cannot run the model here is replaced
            by what is ready at once, "native" or "torch", and a warning says so.

    Raises:
        ValueError: for another name.
    """
    if engine not in ENGINES:
        raise ValueError(f"Engine {engine!r} is unknown; use one of {', '.join(ENGINES)}.")
    name = _fastest(model) if engine == "auto" else engine
    try:
        made: Engine = MAKERS[name](model)
    except ValueError as error:
        other = _ready(model)
        warnings.warn(f"Engine {name!r} cannot run here, engine {other!r} does: {error}", RuntimeWarning, stacklevel=2)
        made = MAKERS[other](model)
    logging.getLogger("lssvwm_rl").info("Engine %r dreams on %s.", made.name, model.device)
    return made


def engine_of(model: WorldModel | Engine) -> Engine:
    """The engine itself, or for a model the fastest that is ready at once, with the weights that the model has now."""
    return make_engine(model, _ready(model)) if isinstance(model, WorldModel) else model


def _fastest(model: WorldModel) -> str:
    if model.device.type == "cuda":
        works = find_spec("triton") is not None and model.config.backbone.kind != "causal"
        return "compiled" if works else "torch"
    return _ready(model)


def _ready(model: WorldModel) -> str:
    return "native" if native_takes(model) and load_kernels() is not None else "torch"
