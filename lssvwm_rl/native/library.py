"""The loaded kernels, and how they are called: sizes and raw pointers, nothing of PyTorch on the other side."""

from __future__ import annotations

import ctypes
import functools
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lssvwm_rl.native.build import SOURCES, BuildError, built_library

PANEL = 64  # columns, a multiple of every processor's panels
SUFFIXES = {torch.float32: "f32", torch.float64: "f64", torch.bfloat16: "bf16"}


class Kernels:
    """The functions of a compiled library, each once per dtype."""

    def __init__(self, library: ctypes.CDLL):
        self._library = library
        self._functions: dict[tuple[str, torch.dtype], Callable] = {}

    def has(self, name: str, dtype: torch.dtype) -> bool:
        """Whether there is a function `NAME_DTYPE`; some are compiled for processors with units for them alone."""
        return hasattr(self._library, f"{name}_{SUFFIXES[dtype]}")

    def __call__(
        self, name: str, dtype: torch.dtype, sizes: Sequence[int], tensors: Sequence[Tensor | int | None]
    ) -> None:
        """Run a kernel on torch's number of threads.

        Args:
            name: of the C function `NAME_DTYPE(const int64_t* sizes, void* const* pointers)`.
            dtype: which of them.
            sizes: handed over behind the number of threads.
            tensors: handed over as pointers, null for None; a number is what `address` gave.

        Raises:
            AssertionError: for a tensor that is not contiguous or not on the CPU, which a kernel would misread.
        """
        function = self._functions.get((name, dtype))
        if function is None:
            function = getattr(self._library, f"{name}_{SUFFIXES[dtype]}")
            function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p], None
            self._functions[name, dtype] = function
        pointers = [address(tensor) if isinstance(tensor, Tensor) else tensor for tensor in tensors]
        function(
            (ctypes.c_int64 * (1 + len(sizes)))(torch.get_num_threads(), *sizes),
            (ctypes.c_void_p * len(pointers))(*pointers),
        )


def pack_panels(kernels: Kernels, weight: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A weight (in, out) as kernels multiply with it, see gemm.h.

    Args:
        dtype: bf16 for pairs along the inputs; the weight's own if None.
    """
    K, N = weight.shape
    dtype = weight.dtype if dtype is None else dtype
    panels = torch.zeros(-(-N // PANEL) * PANEL * (K + K % 2), dtype=dtype)
    kernels("pack", dtype, [N, K], [weight.t().contiguous(), panels])
    return panels


def address(tensor: Tensor) -> int:
    """Where a tensor's numbers lie; for tensors that stay, this is asked once.

    Raises:
        AssertionError: if it is not contiguous or not on the CPU.
    """
    assert tensor.is_contiguous() and tensor.is_cpu, f"{tuple(tensor.shape)} on {tensor.device}"
    return tensor.data_ptr()


@functools.cache
def load_kernels(sources: Path = SOURCES) -> Kernels | None:
    """The kernels, compiled if need be; None, and one warning that says why, where there can be none.

    LSSVWM_NATIVE=0 switches them off, without a warning.
    """
    if os.environ.get("LSSVWM_NATIVE") == "0":
        return None
    try:
        library = built_library(sources)
        try:
            return Kernels(ctypes.CDLL(str(library)))
        except OSError as error:  # for example where programs may not be run from the cache
            raise BuildError(f"{library} does not load ({error})") from error
    except (BuildError, OSError) as error:
        reason = " ".join(str(error).split())
        what = f"There are no native kernels, since {reason}; PyTorch computes instead, as with LSSVWM_NATIVE=0."
        warnings.warn(what, RuntimeWarning, stacklevel=2)
        return None


def kernels_for(*tensors: Tensor) -> Kernels | None:
    """The kernels, if the tensors are on the CPU and the first of them is of a dtype that they know."""
    if tensors[0].dtype not in SUFFIXES or any(tensor.device.type != "cpu" for tensor in tensors):
        return None
    if torch.compiler.is_compiling():
        return None
    return load_kernels()
