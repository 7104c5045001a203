"""CompiledEngine: all passes over a dreamt frame and its commit as one graph of torch.compile."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lssvwm_rl.model.memory import LayerMemory
from lssvwm_rl.model.passes import Inputs
from lssvwm_rl.model.prepared import Prepared
from lssvwm_rl.model.torch_engine import TorchEngine
from lssvwm_rl.model.world_model import WorldModel

SIZES = 64  # batch sizes and numbers of denoising steps that a process may compile for


class CompiledEngine(TorchEngine):
    """See `engine.Engine`. Compiled with inductor, on CUDA with CUDA graphs.

    Every batch size and number of denoising steps is compiled at its first dream, which takes a minute or more; a line
    of the log says so. What was compiled stays in inductor's cache on the disk. Where compilation fails (no C++
    compiler, say), a warning says why and dreaming goes on uncompiled.

    Raises:
        ValueError: for a `causal` model: its cache grows with every frame and each size would be compiled anew.
    """

    name = "compiled"

    def __init__(self, model: WorldModel):
        if model.config.backbone.kind == "causal":
            raise ValueError(
                "A causal model is not compiled: its cache grows with every frame and each size would be compiled anew."
            )
        super().__init__(model, _Compiled)


class _Compiled:
    """A function of `passes`, compiled at its first call for every size."""

    def __init__(self, eager: Callable[[Prepared, Inputs], Any]):
        self._eager = eager
        self._compiled: dict[bool, Callable] = {}  # by whether with CUDA graphs
        self._sizes: set[tuple[int, int]] = set()
        self._failed = False

    def __call__(self, weights: Prepared, inputs: Inputs) -> Any:
        if self._failed:
            return self._eager(weights, inputs)
        graphs, size = inputs.frames.is_cuda, (len(inputs.frames), weights.denoise_steps)
        if graphs not in self._compiled:
            mode = "reduce-overhead" if graphs else None
            self._compiled[graphs] = torch.compile(self._eager, dynamic=False, mode=mode)
        # Other strides would be compiled for anew, and a memory may be views of another.
        layers = tuple(LayerMemory(*(part.contiguous() for part in layer)) for layer in inputs.layers)
        arguments = weights, inputs._replace(layers=layers, noise=inputs.noise.contiguous())
        try:
            if size in self._sizes:
                result = self._compiled[graphs](*arguments)
            else:
                result = self._first(self._compiled[graphs], arguments, size)
            return _owned(result) if graphs else result
        except torch._dynamo.exc.TorchDynamoException as error:
            self._failed = True
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            what = f"{self._eager.__name__} is not compiled and runs as it is: {reason}"
            warnings.warn(what, RuntimeWarning, stacklevel=2)
            return self._eager(weights, inputs)

    def _first(self, compiled: Callable, arguments: tuple[Prepared, Inputs], size: tuple[int, int]) -> Any:
        """The first call for a batch size and a number of denoising steps."""
        logging.getLogger("lssvwm_rl").warning(
            "Compiling dreams of %d rows with %d denoising steps, which takes a minute or more.", *size
        )
        with torch._dynamo.config.patch(recompile_limit=SIZES):
            result = compiled(*arguments)
        self._sizes.add(size)
        return result


def _owned(result: Any) -> Any:
    """A copy: what a CUDA graph returns is overwritten by its next run."""
    if isinstance(result, Tensor):
        return result.clone()
    parts = [_owned(part) for part in result]
    return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
