"""What this machine can do at most, and how near a dreamt frame comes to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import torch
from torch import nn

from lssvwm_bench.speed.dreams import engines_of, noise, seen
from lssvwm_bench.speed.rows import Line, Settings, row
from lssvwm_bench.stopwatch import interleaved, seconds_of
from lssvwm_rl.model.config import KINDS
from lssvwm_rl.model.rates import gemm_rate
from lssvwm_rl.model.world_model import WorldModel

PASSES = 5  # over a frame: four denoising steps and the commit
SIZES = {"L2": 0.375, "L3": 8, "memory": 768}
"""MB of a triad's operands that stay in a core's cache, in one that cores share, and in none; per thread in L2."""


@row("roofs")
def roofs(settings: Settings) -> Iterator[Line]:
    """Rates of matrix products, bandwidths, and shares of the limit that they set to a dreamt frame."""
    gemm = median(gemm_rate() for _ in range(settings.repeats))
    yield Line("fp32 GEMM, 1024^3", "torch", rate=f"{gemm / 1e9:,.0f} GFLOP")
    # Without units for bf16 a large product would take minutes.
    half = median(gemm_rate(size=256, repeats=2, dtype=torch.bfloat16) for _ in range(3))
    yield Line("bf16 GEMM, 256^3", "torch", rate=f"{half / 1e9:,.0f} GFLOP")
    sizes = {**SIZES, "L2": SIZES["L2"] * torch.get_num_threads()}
    widths = {name: bandwidth(megabytes, settings.repeats) for name, megabytes in sizes.items()}
    for name, width in widths.items():
        yield Line(f"triad in {name} ({sizes[name]:g} MB)", "torch", rate=f"{width / 1e9:,.1f} GB")
    model = WorldModel.from_pretrained(settings.checkpoint, backend="torch")
    for batch in (min(settings.batches), max(settings.batches)):
        yield from shares(model, batch, gemm, widths, settings)


def shares(model: WorldModel, batch: int, gemm: float, widths: dict[str, float], settings: Settings) -> Iterator[Line]:
    """Time that the larger of two limits leaves for a step of `batch` dreams, over the time that engines take.

    The limit of bandwidth reads all weights in every pass, and every row's memory in every pass but for its one
    writing; it is that of the cache that holds them. Both are of fp32, also for "native-bf16", which may pass them.
    """
    memory = seen(model, batch, settings.checkpoint)
    weights, rows = weight_bytes(model), memory.nbytes
    moved = PASSES * weights + (PASSES + 1) * rows
    held = next((name for name, size in SIZES.items() if (weights + rows) / 2**20 <= size), "memory")
    by_gemm, by_bytes = frame_flops(model) * batch / gemm, moved / widths[held]
    limit = max(by_gemm, by_bytes)
    which = "GEMM" if by_gemm > by_bytes else f"bandwidth of {held}"
    actions, generators = torch.zeros(batch, dtype=torch.int64), noise(batch)
    ways: dict[str, Callable[[], object]] = {"reference": partial(model.imagine, memory, actions, generators)}
    for name, engine in engines_of(model, settings.engines).items():
        ways[name] = partial(engine.imagine, memory, actions, generators)
    for name, seconds in interleaved(ways, settings.repeats).items():
        share = f"{limit / median(seconds):.0%} of the limit, {1e3 * limit:.2f} ms by {which}"
        yield Line(f"limit of a dream, batch {batch}", name, now=median(seconds), besides=share)


def frame_flops(model: WorldModel) -> float:
    """Floating-point operations of a dreamt frame: matrices, attention's products with its keys, scans' with states.

    Pixels are embedded once as noise and once as the frame, and predicted once: between the passes they need not be
    known.
    """
    (h, w), sizes, layers = model.config.grid, model.config.backbone, model.backbone.layers
    scan, attention = KINDS[sizes.kind]
    tokens, pixels = h * w, 3 * _linear(model.patch_in)
    modulation = sum(_linear(m) for name, m in layers.named_modules() if name.endswith("modulation"))
    mixing = 2 * sizes.width * tokens * sizes.window if attention else 0
    mixing += 2 * sizes.state_size * sizes.expand * sizes.width if scan else 0
    layer_work = _linear(layers) - modulation + mixing * len(sizes.blocks)
    heads = _linear(model.feature_mlp) + _linear(model.reward_head) + _linear(model.continuation_head)
    heads += _linear(model.reward_head.mlp[2])  # of frames that end the episode and of those that do not
    return 2 * (tokens * (PASSES * layer_work + pixels + _linear(model.token_features)) + heads)


def weight_bytes(model: WorldModel) -> int:
    """Bytes of the weights that every pass reads: those of the layers without their modulation, which is a table."""
    layers = model.backbone.layers
    modulation = sum(_linear(m) for name, m in layers.named_modules() if name.endswith("modulation"))
    return 4 * (sum(p.numel() for p in layers.parameters()) - modulation)


def bandwidth(megabytes: float, repeats: int) -> float:
    """Bytes per second of a + s * b -> c whose three arrays are so large together; every number moves once."""
    count = int(megabytes * 2**20 / 12)
    a, b, c = (torch.ones(count) for _ in range(3))
    calls = max(1, int(64 / megabytes))

    def triad() -> None:
        for _ in range(calls):
            torch.add(a, b, alpha=3.0, out=c)

    triad()
    return calls * 12 * count / median(seconds_of(triad) for _ in range(repeats))


def _linear(module: nn.Module) -> int:
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))
