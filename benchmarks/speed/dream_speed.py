"""Dreamt frames per second of an untrained preset, plain and compiled, and which operations take the time.

python benchmarks/speed/dream_speed.py [--preset small] [--batches 1 16] [--compiled] [--profile]
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import torch
import tyro
from torch import Tensor

from lssvwm_bench.stopwatch import gemm_rate, seconds_of
from lssvwm_bench.workload import parameter_count, untrained_model
from lssvwm_rl.model.compiled import compile_dreaming
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.training.cpu import tune_process


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
    model = untrained_model(args.preset, args.frame).eval()
    if args.compiled:
        compile_dreaming(model)
    print(f"{args.preset}: {parameter_count(model) / 1e6:.2f} M parameters, {args.denoise_steps} denoising steps, "
          f"compiled {args.compiled}, fp32 GEMM {gemm_rate() / 1e9:.0f} GFLOP/s")  # fmt: skip
    for batch in args.batches:
        memory, action = model.initial_memory(batch), torch.zeros(batch, dtype=torch.int64)
        noise = [torch.Generator().manual_seed(i) for i in range(batch)]

        def dream(memory: Memory = memory, action: Tensor = action, noise: list[torch.Generator] = noise) -> None:
            model.imagine(memory, action, noise, args.denoise_steps)

        seconds = median([seconds_of(dream) for _ in range(args.repeats + 3)][3:])
        print(f"batch {batch}: {batch / seconds:.1f} frames/s (median of {args.repeats})")
        if args.profile and batch == args.batches[0]:
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                for _ in range(10):
                    dream()
            print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=40))


if __name__ == "__main__":
    main(tyro.cli(Args))
