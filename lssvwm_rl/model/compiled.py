"""Compiled dreaming: the passes over one frame through torch.compile, and a way on where that fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from lssvwm_rl.model.backends import resolve_backend
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.scan.block import BlockScan
from lssvwm_rl.model.world_model import WorldModel


def compile_dreaming(model: WorldModel) -> WorldModel:
    """Compile the denoising pass and the commit of a dreamt frame, with inductor, on CUDA with CUDA graphs.

    Every batch size is compiled at its first dream, which takes a minute or more. Where compilation fails (no C++
    compiler, say), a warning says why and dreaming goes on uncompiled. So it does for `causal` models, whose cache has
    another size in every frame.

    Returns:
        The same model, changed in place.
    """
    if model.config.backbone.kind == "causal":
        warnings.warn(
            "A causal model is not compiled: its cache grows with every frame and each size would be compiled anew.",
            RuntimeWarning,
            stacklevel=2,
        )
        return model
    for module in model.modules():
        if isinstance(module, BlockScan):  # chosen here: looking for the kernels cannot be compiled
            module.backend = resolve_backend(module.backend, model.device)
    graphs = model.device.type == "cuda"
    denoise, commit = (_with_fallback(f, graphs) for f in (WorldModel.denoise, WorldModel.commit))
    model.compiled = denoise, commit
    return model


def _with_fallback(eager: Callable, graphs: bool) -> Callable:
    compiled = torch.compile(eager, dynamic=False, mode="reduce-overhead" if graphs else None)
    failed = False

    def call(*args: Any) -> Any:
        nonlocal failed
        if not failed:
            try:
                return _owned(compiled(*args)) if graphs else compiled(*args)
            except torch._dynamo.exc.TorchDynamoException as error:
                failed = True
                reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
                what = f"{eager.__name__} is not compiled and runs as it is: {reason}"
                warnings.warn(what, RuntimeWarning, stacklevel=2)
        return eager(*args)

    return call


def _owned(result: Any) -> Any:
    """A copy: what a CUDA graph returns is overwritten by its next run."""
    if isinstance(result, (torch.Tensor, Memory)):
        return result.clone()
    parts = [_owned(part) for part in result]
    return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
