"""Temporary: engines by name, until `make_engine` is there."""

from __future__ import annotations

from pathlib import Path

from lssvwm_rl.model.engine import ENGINES, Engine
from lssvwm_rl.model.native_engine import NativeEngine, native_takes
from lssvwm_rl.model.torch_engine import TorchEngine
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.native.library import load_kernels


def make_engine(model: WorldModel, name: str = "auto") -> Engine:
    if name not in ENGINES:
        raise ValueError(f"Engine {name!r} is unknown; use one of {', '.join(ENGINES)}.")
    if name == "native" or (name == "auto" and native_takes(model) and load_kernels() is not None):
        return NativeEngine(model)
    return TorchEngine(model)


def load_engine(name: str | Path, device: str = "cpu", engine: str = "auto") -> Engine:
    return make_engine(WorldModel.from_pretrained(name).to(device), engine)
