"""How fast this machine multiplies matrices: what work is compared with, and whether bf16 pays here."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from statistics import median

import torch

BF16_GAIN = 1.5
"""Times as fast as fp32 that products in bf16 must be to pay: the casts around them cost time, too."""
_LAYER = (512, 128, 512)  # rows, inputs and outputs of a product as a small model has them


def gemm_rate(
    device: str | torch.device = "cpu", size: int = 1024, repeats: int = 10, dtype: torch.dtype = torch.float32
) -> float:
    """FLOP/s of square matrix products."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    a @ b
    seconds = _seconds(lambda: [a @ b for _ in range(repeats)], device)
    return repeats * 2 * size**3 / seconds


def bf16_pays(device: str | torch.device = "cpu") -> bool:
    """Whether mixed precision in bf16 is faster than fp32 here, by products of a small layer's sizes.

    Measured once per process, in a few hundredths of a second: which units a processor has does not tell what torch
    makes of them.
    """
    return _bf16_gain(torch.device(device).type) >= BF16_GAIN


@functools.cache
def _bf16_gain(device: str) -> float:
    """Time of fp32 over time of bf16; turns alternate, since a machine's speed drifts."""
    if device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return 0.0
    rows, inputs, outputs = _LAYER
    operands = [(torch.randn(rows, inputs, device=device), torch.randn(inputs, outputs, device=device))]
    operands += [(a.bfloat16(), b.bfloat16()) for a, b in operands]
    gains: list[float] = []
    for a, b in operands:  # a first product of a kind pays for its preparation
        a @ b
    for _ in range(7):
        full, half = (_seconds(functools.partial(torch.mm, *pair), device) for pair in operands)
        gains.append(full / half)
        if gains[-1] < 0.5:  # without units for bf16 one product may take as long as all turns with them
            return gains[-1]
    return median(gains)


def _seconds(run: Callable[[], object], device: str | torch.device) -> float:
    def wait() -> None:
        if torch.device(device).type != "cpu":
            torch.accelerator.synchronize()

    wait()
    started = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - started
