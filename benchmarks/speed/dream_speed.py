"""Dreamt frames per second of an untrained preset, plain and compiled, and which operations take the time.

python benchmarks/dream_speed.py [--preset small] [--batches 1 16] [--compiled] [--profile]
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
import tyro
from lssvwm_bench.cost import ACTIONS, gemm_rate

from lssvwm_rl.data.store import StoreHeader
from lssvwm_rl.model.compiled import compile_dreaming
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.cpu import tune_process
from lssvwm_rl.training.presets import model_config


@dataclass(frozen=True)
class Args:
    """Sizes of the dream."""

    preset: str = "small"
    frame: int = 64
    batches: tuple[int, ...] = (1, 16)
    denoise_steps: int = 4
    repeats: int = 40
    compiled: bool = False
    profile: bool = False
    threads: int = 2


def main(args: Args) -> None:
    """Print frames per second, and a profile of the first batch size if asked for."""
    torch.set_num_threads(args.threads)
    tune_process()
    torch.manual_seed(0)
    model = WorldModel(model_config(args.preset, StoreHeader((args.frame, args.frame, 3), ACTIONS))).eval()
    if args.compiled:
        compile_dreaming(model)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{args.preset}: {parameters / 1e6:.2f} M parameters, {args.denoise_steps} denoising steps, "
          f"compiled {args.compiled}, fp32 GEMM {gemm_rate() / 1e9:.0f} GFLOP/s")  # fmt: skip
    for batch in args.batches:
        memory, action = model.initial_memory(batch), torch.zeros(batch, dtype=torch.int64)
        noise = [torch.Generator().manual_seed(i) for i in range(batch)]

        def dream(frames: int, memory=memory, action=action, noise=noise) -> list[float]:
            times = []
            for _ in range(frames):
                started = time.perf_counter()
                memory = model.imagine(memory, action, noise, args.denoise_steps).memory
                times.append(time.perf_counter() - started)
            return times

        dream(3)
        times = sorted(dream(args.repeats))
        print(f"batch {batch}: {batch / times[len(times) // 2]:.1f} frames/s (median of {args.repeats})")
        if args.profile and batch == args.batches[0]:
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                dream(10)
            print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=40))


if __name__ == "__main__":
    main(tyro.cli(Args))
