"""Measure what every kind of model costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from matplotlib.figure import Figure
from torch.utils.flop_counter import FlopCounterMode

from lssvwm_bench.bench import Findings, bench
from lssvwm_bench.figures import markdown_table, new_figure
from lssvwm_bench.stopwatch import seconds_of
from lssvwm_bench.workload import parameter_count, random_batch, untrained_model
from lssvwm_rl.model.config import KINDS
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.rates import gemm_rate
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.progress import Say, Update, progress_bar
from lssvwm_rl.training.objective import Objective, ObjectiveConfig

EXAMPLE = "lssvwm bench cost --kinds block_ssm causal --contexts 100 1000"
PREFILL = 100  # frames observed at a time
PANELS = (
    ("ms per dreamt frame", "dream", "context", "ms_per_frame", 1),
    ("MB of memory", "dream", "context", "memory_bytes", 2**20),
    ("ms per trained frame", "train", "span", "ms_per_frame", 1),
)
"""Of the plot: title, phase, what it is plotted against, what is plotted, in which unit."""


@bench("cost")
@dataclass(frozen=True)
class CostBench:
    """Time and memory per dreamt frame against context, prefill, and training time against span, for every kind: the
    comparison of the paper's figure 8 in kind. Weights are random, which costs the same as trained ones."""

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

    def run(self, say: Say) -> Findings:
        """See `measure_costs`."""
        results = measure_costs(self, say)
        return Findings(results, cost_table(results), cost_plot(results))


def measure_costs(config: CostBench, say: Say = lambda _: None) -> dict[str, Any]:
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
        model = untrained_model(config.preset, config.frame, kind).to(config.device).eval()
        say(f"{kind}: dreaming")
        with progress_bar("prefill", "frames") as bar:
            memories, prefill = _prefill(model, max(config.contexts), config.contexts, bar)
        with progress_bar("dream", "rounds") as bar:
            dreams = _dream(model, memories, config, bar)
        say(f"{kind}: training")
        trained = []
        with progress_bar("train", "spans") as bar:
            for done, span in enumerate(config.spans, 1):
                trained.append(_train_step(model, span, config))
                bar(done, len(config.spans))
        results[kind] = {
            "parameters": parameter_count(model),
            "layers": len(model.config.backbone.blocks),
            "prefill_frames_per_s": prefill,
            "dream": dreams,
            "train": trained,
        }
    return results


def _prefill(
    model: WorldModel, frames: int, contexts: Sequence[int], progress: Update
) -> tuple[dict[int, Memory], float]:
    """The memory after each context, and frames observed per second."""
    batch, memory, kept = random_batch(model, 1, PREFILL), model.initial_memory(1), {}

    def observe() -> None:
        nonlocal memory
        memory, _ = model.observe(memory, batch.frames, batch.actions)

    seconds = 0.0
    for seen in range(PREFILL, frames + 1, PREFILL):
        seconds += seconds_of(observe, model.device)
        progress(seen, frames)
        if seen in contexts:
            kept[seen] = memory
    return kept, frames / seconds


def _dream(
    model: WorldModel, memories: dict[int, Memory], config: CostBench, progress: Update
) -> list[dict[str, float]]:
    noise, action = [torch.Generator(model.device)], torch.zeros(1, dtype=torch.int64, device=model.device)
    times: dict[int, list[float]] = {context: [] for context in memories}
    # Contexts alternate, so that a machine that slows down does so for all of them.
    for done in range(config.repeats + 1):
        for context, memory in memories.items():
            dream = partial(model.imagine, memory, action, noise, config.denoise_steps)
            times[context].append(seconds_of(dream, model.device))
        progress(done + 1, config.repeats + 1)
    return [
        {"context": context, "ms_per_frame": 1e3 * median(times[context][1:]), "memory_bytes": memories[context].nbytes}
        for context in sorted(memories)
    ]


def _train_step(model: WorldModel, span: int, config: CostBench) -> dict[str, float]:
    batch, generator = random_batch(model, config.batch, span), torch.Generator(model.device)
    objective = Objective(model, ObjectiveConfig())

    def step() -> None:
        losses, *_ = objective(batch, None, generator)
        losses["total"].backward()
        model.zero_grad()

    with FlopCounterMode(display=False) as counter:
        step()
    repeats = max(3, config.repeats // 4)
    shares, times = [], []
    for _ in range(repeats):
        peak = gemm_rate(config.device)
        times.append(seconds_of(step, config.device))
        shares.append(counter.get_total_flops() / times[-1] / peak)
    frames = config.batch * span
    return {"span": span, "ms_per_frame": 1e3 * median(times) / frames, "gemm_share": median(shares)}


def _check(config: CostBench) -> None:
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
    for axes, (title, phase, across, measure, unit) in zip(panels, PANELS, strict=True):
        for kind, result in results.items():
            ticks = [point[across] for point in result[phase]]
            axes.plot(ticks, [point[measure] / unit for point in result[phase]], marker="o", label=kind)
        axes.set(xscale="log", title=title, xlabel=f"{across} (frames)")
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
    for axes in panels[:2]:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    panels[2].set_ylim(bottom=0)
    panels[0].legend(fontsize=8)
    return figure
