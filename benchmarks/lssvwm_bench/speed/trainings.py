"""Training and what it is made of: an update, the scan alone, and a long history committed at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from unittest.mock import patch

import torch
from torch import Tensor

from lssvwm_bench.speed.rows import Line, Settings, compare, lines_of, row
from lssvwm_bench.stopwatch import interleaved
from lssvwm_bench.workload import random_batch, stepwise_scan, untrained_model
from lssvwm_rl.data.clips import Batch
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.rates import bf16_pays, gemm_rate
from lssvwm_rl.model.scan import ssd
from lssvwm_rl.model.scan.block import BlockScan
from lssvwm_rl.model.scan.ssd import CHUNK_SIZE, chunked_scan
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.native import scan_functions
from lssvwm_rl.native.library import kernels_for
from lssvwm_rl.training.objective import Objective, ObjectiveConfig
from lssvwm_rl.training.work import update_flops

WIDTH, HEAD_SIZE, STATE_SIZE = 128, 32, 32  # of the preset `tiny`


@row("train")
def train(settings: Settings) -> Iterator[Line]:
    """An update of `tiny`; in bf16 as well where that pays. The machine's rate of products is measured between."""
    (clips, span), frame = settings.clips, settings.frame
    reference, model = (untrained_model("tiny", frame, backend=name) for name in ("torch", "native"))
    batch = random_batch(model, clips, span)
    ways = {"reference": update(reference, batch), "native": update(model, batch)}
    if bf16_pays():
        ways["torch, bf16"] = update(untrained_model("tiny", frame, backend="torch"), batch, bf16=True)
        ways["native, bf16"] = update(untrained_model("tiny", frame, backend="native"), batch, bf16=True)
    rates: list[float] = []
    times = interleaved({**ways, "GEMM": lambda: rates.append(gemm_rate())}, settings.repeats)
    del times["GEMM"]
    flops = update_flops(model, ObjectiveConfig(), clips, span)
    shares = {name: f"{flops / median(seconds) / median(rates):.0%} of fp32 GEMM" for name, seconds in times.items()}
    what = f"update, `tiny`, {clips} x {span} frames of {frame}x{frame}"
    first = Line(what, "reference", median(times["reference"]), besides=shares["reference"])
    yield from [first, *lines_of(what, times, clips * span, "frames", shares)]


def update(model: WorldModel, batch: Batch, bf16: bool = False) -> Callable[[], None]:
    """A function that updates the model once."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    objective = Objective(model, ObjectiveConfig())

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            losses, *_ = objective(batch, None, torch.Generator().manual_seed(0))
        losses["total"].backward()
        optimizer.step()

    return step


@row("scan")
def scan(settings: Settings) -> Iterator[Line]:
    """Forward and backward: ours against transformers' Mamba-2 in plain PyTorch, the scan alone and as a mixer."""
    sizes = f"{settings.scan[0]} x {settings.scan[1]} tokens"
    for what, ways in (("scan", scans(*settings.scan)), ("mixer", mixers(*settings.scan))):
        both = {name: backward(run) for name, run in ways.items()}
        yield from compare(f"{what}, forward and backward, {sizes}", both, settings.repeats)


def scans(sequences: int, length: int) -> dict[str, Callable[[], Tensor]]:
    """Functions of one function: transformers' first, then ours.

    Raises:
        AssertionError: if they do not agree.
    """
    from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

    g, heads = torch.Generator().manual_seed(0), 2 * WIDTH // HEAD_SIZE
    x = torch.randn(sequences, length, heads, HEAD_SIZE, generator=g, requires_grad=True)
    dt, A = torch.rand(sequences, length, heads, generator=g), -torch.rand(heads, generator=g)
    B, C = (torch.randn(sequences, length, STATE_SIZE, generator=g) for _ in range(2))
    state = torch.zeros(sequences, heads, HEAD_SIZE, STATE_SIZE)

    def theirs() -> Tensor:
        result = mamba2_chunk_scan(x, dt, A, B[:, :, None], C[:, :, None], CHUNK_SIZE)
        return result[0] if isinstance(result, tuple) else result

    ways: dict[str, Callable[[], Tensor]] = {"transformers": theirs}
    ways |= {"torch": partial(first_of, chunked_scan, x, dt, A, B, C, state)}
    kernels = kernels_for(x)
    if kernels is not None:
        ways |= {"native": partial(first_of, partial(scan_functions.chunked_scan, kernels), x, dt, A, B, C, state)}
    for name in list(ways)[1:]:
        torch.testing.assert_close(theirs().float(), ways[name](), rtol=1e-3, atol=1e-3)
    return ways


def mixers(sequences: int, length: int) -> dict[str, Callable[[], Tensor]]:
    """Mixers of the same sizes; transformers' one has a short convolution besides, a small part of its time."""
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    tokens = torch.randn(sequences, length, WIDTH, requires_grad=True)
    config = Mamba2Config(
        hidden_size=WIDTH, num_heads=2 * WIDTH // HEAD_SIZE, head_dim=HEAD_SIZE, state_size=STATE_SIZE, n_groups=1,
        expand=2, chunk_size=CHUNK_SIZE,
    )  # fmt: skip
    theirs = Mamba2Mixer(config, layer_idx=0)
    ways: dict[str, Callable[[], Tensor]] = {"transformers": lambda: theirs(tokens)}
    for backend in ("torch", "native"):
        ours = BlockScan(WIDTH, (1, 1), (1, 1), STATE_SIZE, HEAD_SIZE, 2, backend)
        frames, empty = tokens.view(sequences, length, 1, 1, 1, WIDTH), ours.initial_state(sequences)
        ways[backend] = partial(first_of, ours, frames, empty)
    return ways


def first_of(function: Callable[..., tuple[Tensor, ...]], *arguments: Tensor) -> Tensor:
    """The first of what a function returns."""
    return function(*arguments)[0]


def backward(run: Callable[[], Tensor]) -> Callable[[], None]:
    """A function's call and the gradients of its sum."""
    return lambda: run().sum().backward()


@row("prefill")
def prefill(settings: Settings) -> Iterator[Line]:
    """A history committed in one call, against frame by frame and against one scan step per token, which is how
    re-implementations prefill; everything else in the model is the same, and so is the memory, which is checked."""
    reference = untrained_model("tiny", settings.frame, backend="torch").eval()
    model = untrained_model("tiny", settings.frame, backend="native").eval()
    batch = random_batch(model, 1, settings.prefill)

    def by_token() -> Memory:
        with patch.object(ssd, "chunked_scan", stepwise_scan):
            return by_frame(reference, batch)

    ways: dict[str, Callable[[], Memory]] = {
        "token by token": by_token,
        "frame by frame": lambda: by_frame(reference, batch),
        "one call, torch": lambda: at_once(reference, batch),
        "one call, native": lambda: at_once(model, batch),
    }
    expected = ways["one call, torch"]().features
    for way in ways.values():
        torch.testing.assert_close(way().features, expected, rtol=1e-3, atol=1e-3)
    what = f"{settings.prefill:,} real frames, `tiny`, against token by token"
    repeats = min(settings.repeats, 3)  # the slow ways are the reference, and far away
    yield from compare(what, ways, repeats, settings.prefill, "frames")


def at_once(model: WorldModel, batch: Batch) -> Memory:
    """The memory after a batch, by one call."""
    return model.observe(model.initial_memory(1), batch.frames, batch.actions)[0]


def by_frame(model: WorldModel, batch: Batch) -> Memory:
    """The same by a call per frame."""
    memory = model.initial_memory(1)
    for t in range(batch.frames.shape[1]):
        one = slice(t, t + 1)
        memory, _ = model.observe(memory, batch.frames[:, one], batch.actions[:, one])
    return memory
