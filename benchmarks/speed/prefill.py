"""Committing a real history: in one chunked call, frame by frame, and token by token.

    python benchmarks/prefill.py [--preset tiny] [--frames 1000]

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
from lssvwm_bench.cost import ACTIONS, random_batch
from torch import Tensor

from lssvwm_rl.data.store import StoreHeader
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.scan import ssd
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.cpu import tune_process
from lssvwm_rl.training.presets import model_config


@dataclass(frozen=True)
class Args:
    """Sizes of the comparison."""

    preset: str = "tiny"
    frame: int = 64
    frames: int = 1000
    repeats: int = 3
    threads: int = 2


def token_by_token(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """`ssd.chunked_scan`, one step after the other."""
    outputs = []
    for t in range(x.shape[1]):
        one = slice(t, t + 1)
        y, state = ssd.scan_step(x[:, one], dt[:, one], A, B[:, one], C[:, one], state)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state


def main(args: Args) -> None:
    """Print times and ratios; the three ways alternate."""
    torch.set_num_threads(args.threads)
    tune_process()
    torch.manual_seed(0)
    header = StoreHeader((args.frame, args.frame, 3), ACTIONS)
    model = WorldModel(model_config(args.preset, header)).eval()
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
        with patch.object(ssd, "chunked_scan", token_by_token):
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
