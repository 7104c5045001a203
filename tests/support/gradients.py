"""What tests of fused functions compare: outputs and gradients, for one given gradient of every output."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def outputs_and_gradients(function: Callable, inputs: Sequence[Tensor | None], seed: int = 0) -> list[Tensor]:
    """The outputs of a function, then the gradients of those inputs that are floating point numbers."""
    leaves = [None if t is None else t.detach().clone().requires_grad_(t.is_floating_point()) for t in inputs]
    outputs = function(*leaves)
    outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
    generator = torch.Generator().manual_seed(seed)
    total = sum((y * torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.dtype)).sum() for y in outputs)
    wanted = [t for t in leaves if t is not None and t.requires_grad]
    return [y.detach() for y in outputs] + list(torch.autograd.grad(total, wanted))


def assert_all_close(got: Sequence[Tensor], expected: Sequence[Tensor], **tolerance: float) -> None:
    assert len(got) == len(expected)
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        torch.testing.assert_close(a, b, **tolerance, msg=lambda m, i=i: f"{i}: {m}")
