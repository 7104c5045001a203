"""Committing a real history: in one chunked call, frame by frame, and token by token.

    python benchmarks/speed/prefill.py [--preset tiny] [--frames 1000]

Token by token is how re-implementations prefill that step their scan once per token; everything else in the model is
the same. All three end with the same memory, which is checked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from unittest.mock import patch

import torch
import tyro

from lssvwm_bench.workload import random_batch, stepwise_scan, untrained_model
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.scan import ssd
from lssvwm_rl.training.cpu import tune_process


@dataclass(frozen=True)
class Args:
    """Sizes of the comparison."""

    preset: str = "tiny"
    frame: int = 64
    frames: int = 1000
    repeats: int = 3
    threads: int = 2


def main(args: Args) -> None:
    """Print times and ratios; the three ways alternate."""
    torch.set_num_threads(args.threads)
    tune_process()
    model = untrained_model(args.preset, args.frame).eval()
    batch = random_batch(model, 1, args.frames)

    def whole() -> Memory:
        return model.observe(model.initial_memory(1), batch.frames, batch.actions)[0]

    def by_frame() -> Memory:
        memory = model.initial_memory(1)
        for t in range(args.frames):
            one = slice(t, t + 1)
            memory, _ = model.observe(memory, batch.frames[:, one], batch.actions[:, one])
        return memory

    def by_token() -> Memory:
        with patch.object(ssd, "chunked_scan", stepwise_scan):
            return by_frame()

    ways: dict[str, Callable[[], Memory]] = {"one call": whole, "frame by frame": by_frame, "token by token": by_token}
    times: dict[str, list[float]] = {name: [] for name in ways}
    reference = whole()
    for _ in range(args.repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            memory = way()
            times[name].append(time.perf_counter() - started)
            torch.testing.assert_close(memory.features, reference.features, rtol=1e-3, atol=1e-3)
    best = {name: min(seconds) for name, seconds in times.items()}
    print(f"{args.preset}, {args.frames} frames of {args.frame}x{args.frame}, {args.threads} threads")
    for name, seconds in best.items():
        rate, ratio = args.frames / seconds, seconds / best["one call"]
        print(f"{name:<15} {seconds:7.2f} s  {rate:8.0f} frames/s  {ratio:5.1f}x the time of one call")


if __name__ == "__main__":
    main(tyro.cli(Args))
