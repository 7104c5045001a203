"""What computes the layers: plain PyTorch, our CPU kernels, or the scan kernels of `mamba-ssm`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

import torch
from torch import Tensor

from lssvwm_rl.native.library import SUFFIXES, Kernels, kernels_for

BACKENDS = ("auto", "torch", "native", "mamba")


def resolve_backend(backend: str, device: torch.device) -> str:
    """The backend to use on `device`: "torch", "native" or "mamba".

    Args:
        backend: "auto" ("mamba" on CUDA where `mamba-ssm` imports, "native" on a CPU, else "torch"), or one of these.
            "native" is "torch" wherever kernels or sizes do not suit.
        device: where the tensors are.

    Raises:
        ValueError: `backend` is none of these.
        RuntimeError: "mamba" was asked for and cannot run on `device`.
    """
    return _resolve(backend, device.type)


def native_kernels(backend: str, *tensors: Tensor) -> Kernels | None:
    """The CPU kernels, if the backend is "native" there and they know the dtypes of the first tensor and of mixed
    precision; else None."""
    if resolve_backend(backend, tensors[0].device) != "native":
        return None
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") not in SUFFIXES:
        return None
    return kernels_for(*tensors)


@functools.cache
def _resolve(backend: str, device: str) -> str:
    if backend not in BACKENDS:
        raise ValueError(f"Scan backend {backend!r} does not exist; choose one of {', '.join(BACKENDS)}.")
    if backend in ("auto", "native") and device == "cpu":
        return "native"
    if backend in ("torch", "native") or (backend == "auto" and device != "cuda"):
        return "torch"
    if device != "cuda" and not interpreted():
        raise RuntimeError(f"Scan backend 'mamba' cannot run on {device}; use a CUDA device or backend 'torch'")
    try:
        load_mamba()
    except RuntimeError:
        if backend == "mamba":
            raise
        return "torch"
    return "mamba"


@functools.cache
def load_mamba() -> tuple[Callable, Callable]:
    """`mamba_chunk_scan_combined` and `selective_state_update` of `mamba-ssm`.

    Raises:
        RuntimeError: there is no CUDA device, or `mamba-ssm` does not import.
    """
    if not torch.cuda.is_available() and not interpreted():
        raise RuntimeError("Scan backend 'mamba' needs a CUDA device and finds none; use backend 'torch'")
    try:
        from mamba_ssm.ops.triton.selective_state_update import selective_state_update
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
    except ImportError as error:
        raise RuntimeError(
            f"Scan backend 'mamba' needs mamba-ssm ({error}); pip install \"lssvwm-rl[cuda]\", or use backend 'torch'"
        ) from error
    return mamba_chunk_scan_combined, selective_state_update


def interpreted() -> bool:
    """Whether Triton's interpreter runs kernels on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"
