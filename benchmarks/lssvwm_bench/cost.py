"""What a dreamt frame and an update cost, for every kind of model: the comparison of the paper's figure 8 in kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from matplotlib.figure import Figure
from torch.utils.flop_counter import FlopCounterMode

from lssvwm_bench.results import markdown_table, new_figure
from lssvwm_rl.data.clips import Batch
from lssvwm_rl.data.store import StoreHeader
from lssvwm_rl.model.config import KINDS
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.objective import Objective, ObjectiveConfig
from lssvwm_rl.training.presets import model_config

PREFILL = 100  # frames observed at a time
ACTIONS = {"type": "Discrete", "n": 6, "start": 0}


@dataclass(frozen=True)
class CostConfig:
    """What is measured; weights are random, which costs the same as trained ones."""

    preset: str = "tiny"
    """Sizes of all models."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """Kinds of backbone, all with as many parameters."""
    frame: int = 64
    """Side of the square frames in pixels."""
    contexts: tuple[int, ...] = (100, 1_000, 10_000)
    """Frames that the memory has seen when the next one is dreamt; multiples of 100."""
    spans: tuple[int, ...] = (16, 32, 64, 128)
    """Frames per training clip."""
    batch: int = 4
    """Clips per update."""
    denoise_steps: int = 4
    """Network passes per dreamt frame, the commit not counted."""
    repeats: int = 15
    """Measurements of each figure, of which the median is taken."""
    device: str = "cpu"
    """Where the models run."""


def measure_costs(config: CostConfig, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Measure all kinds.

    Returns:
        JSON values: per kind "parameters", "layers", "prefill_frames_per_s", "dream" (list of {"context",
        "ms_per_frame", "memory_bytes"}) and "train" (list of {"span", "ms_per_frame", "gemm_share"}).

    Raises:
        ValueError: for unknown kinds, or numbers out of range.
    """
    _check(config)
    results = {}
    for kind in config.kinds:
        torch.manual_seed(0)
        header = StoreHeader((config.frame, config.frame, 3), ACTIONS)
        model = WorldModel(model_config(config.preset, header, kind)).to(config.device).eval()
        say(f"{kind}: dreaming")
        memories, prefill = _prefill(model, max(config.contexts), config.contexts)
        dreams = _dream(model, memories, config)
        say(f"{kind}: training")
        results[kind] = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "layers": len(model.config.backbone.blocks),
            "prefill_frames_per_s": prefill,
            "dream": dreams,
            "train": [_train_step(model, span, config) for span in config.spans],
        }
    return results


def gemm_rate(device: str = "cpu", size: int = 1024, repeats: int = 10) -> float:
    """FLOP/s of square fp32 matrix products."""
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    a @ b
    seconds = _seconds(lambda: [a @ b for _ in range(repeats)], device)
    return repeats * 2 * size**3 / seconds


def random_batch(model: WorldModel, clips: int, span: int) -> Batch:
    """Clips of noise: (B, T) of the model's frames and actions."""
    g, shape = torch.Generator().manual_seed(0), (clips, span)
    none = torch.zeros(shape, dtype=torch.bool)
    batch = Batch(
        frames=torch.randint(0, 256, (*shape, *model.config.frame_shape), generator=g, dtype=torch.uint8),
        actions=torch.randint(0, model.config.action_space["n"], shape, generator=g),
        first=none,
        rewards=torch.rand(shape, generator=g),
        terminated=none,
        mask=~none,
    )
    return batch.to(model.device)


def _prefill(model: WorldModel, frames: int, contexts: Sequence[int]) -> tuple[dict[int, Memory], float]:
    """The memory after each context, and frames observed per second."""
    batch, memory, kept = random_batch(model, 1, PREFILL), model.initial_memory(1), {}

    def observe() -> None:
        nonlocal memory
        memory, _ = model.observe(memory, batch.frames, batch.actions)

    seconds = 0.0
    for seen in range(PREFILL, frames + 1, PREFILL):
        seconds += _seconds(observe, model.device.type)
        if seen in contexts:
            kept[seen] = memory
    return kept, frames / seconds


def _dream(model: WorldModel, memories: dict[int, Memory], config: CostConfig) -> list[dict[str, float]]:
    noise, action = [torch.Generator(model.device)], torch.zeros(1, dtype=torch.int64, device=model.device)
    times: dict[int, list[float]] = {context: [] for context in memories}
    # By turns, so that a machine that slows down does so for all contexts.
    for _ in range(config.repeats + 1):
        for context, memory in memories.items():
            dream = partial(model.imagine, memory, action, noise, config.denoise_steps)
            times[context].append(_seconds(dream, model.device.type))
    return [
        {"context": context, "ms_per_frame": 1e3 * median(times[context][1:]), "memory_bytes": memories[context].nbytes}
        for context in sorted(memories)
    ]


def _train_step(model: WorldModel, span: int, config: CostConfig) -> dict[str, float]:
    batch, generator = random_batch(model, config.batch, span), torch.Generator(model.device)
    objective = Objective(model, ObjectiveConfig())

    def step() -> None:
        losses, _ = objective(batch, None, generator)
        losses["total"].backward()
        model.zero_grad()

    with FlopCounterMode(display=False) as counter:
        step()
    repeats = max(3, config.repeats // 4)
    shares, times = [], []
    for _ in range(repeats):
        peak = gemm_rate(config.device)
        times.append(_seconds(step, config.device))
        shares.append(counter.get_total_flops() / times[-1] / peak)
    frames = config.batch * span
    return {"span": span, "ms_per_frame": 1e3 * median(times) / frames, "gemm_share": median(shares)}


def _seconds(run: Callable[[], object], device: str) -> float:
    on_cuda = torch.device(device).type == "cuda"
    if on_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if on_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _check(config: CostConfig) -> None:
    unknown = set(config.kinds) - set(KINDS)
    if unknown or not config.kinds:
        raise ValueError(f"The kinds {sorted(unknown)} are unknown; use some of {', '.join(KINDS)}.")
    if not config.contexts or any(c < PREFILL or c % PREFILL for c in config.contexts):
        raise ValueError(f"Contexts must be multiples of {PREFILL} frames, got {config.contexts}.")
    if min(config.batch, config.denoise_steps, config.repeats) < 1 or not config.spans or min(config.spans) < 2:
        raise ValueError(f"Batch, denoise_steps and repeats must be at least 1 and spans 2, got {config}.")


def cost_table(results: dict[str, Any]) -> str:
    """Markdown."""
    first = next(iter(results.values()))
    contexts, spans = [d["context"] for d in first["dream"]], [t["span"] for t in first["train"]]
    head = ["kind", "layers", "parameters", "prefill frames/s"]
    head += [f"dream ms/frame at {c}" for c in contexts] + [f"memory MB at {c}" for c in contexts]
    head += [f"train ms/frame, span {s}" for s in spans] + ["share of GEMM"]
    rows = [
        [
            kind,
            str(r["layers"]),
            f"{r['parameters'] / 1e6:.2f} M",
            f"{r['prefill_frames_per_s']:.0f}",
            *(f"{d['ms_per_frame']:.1f}" for d in r["dream"]),
            *(f"{d['memory_bytes'] / 2**20:.2f}" for d in r["dream"]),
            *(f"{t['ms_per_frame']:.2f}" for t in r["train"]),
            f"{100 * r['train'][-1]['gemm_share']:.0f} %",
        ]
        for kind, r in results.items()
    ]
    return markdown_table(head, rows)


def cost_plot(results: dict[str, Any]) -> Figure:
    """Three panels: time and memory of a dreamt frame against context, time of training against span."""
    figure, panels = new_figure(3)
    for kind, r in results.items():
        contexts = [d["context"] for d in r["dream"]]
        panels[0].plot(contexts, [d["ms_per_frame"] for d in r["dream"]], marker="o", label=kind)
        panels[1].plot(contexts, [d["memory_bytes"] / 2**20 for d in r["dream"]], marker="o", label=kind)
        spans = [t["span"] for t in r["train"]]
        panels[2].plot(spans, [t["ms_per_frame"] for t in r["train"]], marker="o", label=kind)
    labels = (
        ("ms per dreamt frame", "context (frames)", contexts),
        ("MB of memory", "context (frames)", contexts),
        ("ms per trained frame", "span (frames)", spans),
    )
    for axes, (title, what, ticks) in zip(panels, labels, strict=True):
        axes.set(xscale="log", title=title, xlabel=what)
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
    for axes in panels[:2]:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    panels[2].set_ylim(bottom=0)
    panels[0].legend(fontsize=8)
    return figure
