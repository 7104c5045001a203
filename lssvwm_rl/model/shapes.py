"""Whether weights in a file are those of a config, before any memory is taken for the model or for them.

A config of a few bytes can ask for any number of weights, so the model is made on PyTorch's meta device, whose tensors
have shapes and no numbers, and compared with the header of the file, which is as large as it says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lssvwm_rl.model.draws import shapes_alone

MOST_STATE = 2**30
"""Numbers in the memory of one row and in what is never trained and not kept in files; all presets have far fewer."""
_RANDOM = {torch.rand, torch.randn}
_BY_ELEMENTS = {
    *("add", "radd", "sub", "rsub", "mul", "rmul", "div", "truediv", "rtruediv", "rdiv", "pow", "rpow"),
    *(
        "empty_like",
        "zeros_like",
        "ones_like",
        "full_like",
        "neg",
        "reciprocal",
        "exp",
        "expm1",
        "log",
        "sqrt",
        "rsqrt",
        "cos",
        "sin",
    ),
}


def shapes_in(path: Path) -> dict[str, Tensor]:
    """Tensors without numbers, of the names and shapes in a safetensors file.

    Raises:
        SafetensorError, OSError: if it is no whole safetensors file.
    """
    with safe_open(path, "np") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  it is no dict
        return {name: torch.empty(part.get_shape(), device="meta") for name, part in slices.items()}


def check_shapes(make: Callable[[], nn.Module], layers: int, found: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless weights fit a model.

    Args:
        make: makes the model.
        layers: how many it has.
        found: what `shapes_in` says, by the model's names.
    """
    if layers > len(found):
        raise ValueError(f"the config has {layers} layers, the weights are {len(found)} tensors")
    try:
        with torch.device("meta"), _ShapesAlone():
            model = make()
            asked = model.state_dict()
            state: Any = model
            parts = [*model.buffers(), *state.initial_memory(1).tensors().values()]
            size = sum(part.numel() for part in parts)
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError(f"the config asks for more than any machine has ({str(error).splitlines()[0]})") from error
    for name in sorted(set(asked) ^ set(found)):
        raise ValueError(f"{name} is {'missing' if name in asked else 'no part of such a model'}")
    for name, ours in asked.items():
        if found[name].shape != ours.shape:
            raise ValueError(f"{name} has shape {tuple(found[name].shape)}, the config asks for {tuple(ours.shape)}")
    if size > MOST_STATE:
        raise ValueError(f"the config asks for a memory and fixed parts of {size:.2g} numbers")


class _ShapesAlone(TorchFunctionMode):
    """Leaves out what has no effect on shapes, and for which PyTorch would load what its compiler needs, for a second
    or two. What is not named here works, too."""

    def __enter__(self) -> Any:
        self._before = shapes_alone.set(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        shapes_alone.reset(self._before)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if func is torch.linspace:
            return torch.empty(kwargs["steps"] if "steps" in kwargs else args[2])
        if func is torch.arange and all(isinstance(part, int) for part in args):
            return torch.empty(len(range(*args)), dtype=torch.int64)
        if func is torch.Tensor.repeat and all(isinstance(times, int) for times in args[1:]):
            sides = [1] * (len(args) - 1 - args[0].ndim) + list(args[0].shape)
            return torch.empty([side * times for side, times in zip(sides, args[1:], strict=True)])
        if func is torch.meshgrid:
            return tuple(torch.empty([len(part) for part in args]) for _ in args)
        if func is torch.eye:
            return torch.empty(args[0], args[0])
        if func in _RANDOM:
            return torch.empty(*args)
        name = getattr(func, "__name__", "")
        if name.strip("_") in _BY_ELEMENTS:
            if name.endswith("_") and not name.endswith("__"):  # in place
                return args[0]
            tensors = [part for part in args if isinstance(part, Tensor)]
            reversed_shapes = zip_longest(*(t.shape[::-1] for t in tensors), fillvalue=1)
            shape = [next((side for side in sides if side != 1), 1) for sides in reversed_shapes]
            return torch.empty(shape[::-1], dtype=tensors[0].dtype)
        return func(*args, **kwargs)
