"""The train step's arithmetic rate against the fp32 GEMM rate of the same run.

python benchmarks/speed/train_step.py [--preset tiny] [--batch 16] [--span 32]
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import torch
import tyro
from torch.utils.flop_counter import FlopCounterMode

from lssvwm_bench.stopwatch import gemm_rate, seconds_of
from lssvwm_bench.workload import parameter_count, random_batch, untrained_model
from lssvwm_rl.training.cpu import tune_process
from lssvwm_rl.training.objective import Objective, ObjectiveConfig


@dataclass(frozen=True)
class Args:
    """Sizes of the step."""

    preset: str = "tiny"
    batch: int = 16
    span: int = 32
    frame: int = 56
    repeats: int = 8
    threads: int = 2
    bf16: bool = False


def main(args: Args) -> None:
    """Print the rates and their ratio; GEMM and step alternate, since the machine's speed drifts."""
    torch.set_num_threads(args.threads)
    tune_process()
    model = untrained_model(args.preset, args.frame)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    batch = random_batch(model, args.batch, args.span)
    objective = Objective(model, ObjectiveConfig())

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            losses, _ = objective(batch, None, torch.Generator().manual_seed(0))
        losses["total"].backward()
        optimizer.step()

    with FlopCounterMode(display=False) as counter:
        step()
    flops = counter.get_total_flops()
    rates, gemms = [], []
    for _ in range(args.repeats):
        gemms.append(gemm_rate())
        rates.append(flops / seconds_of(step))
    rate, gemm, millions = median(rates), median(gemms), parameter_count(model) / 1e6
    print(f"{args.preset}: {millions:.2f} M parameters, {args.batch} x {args.span} frames, bf16 {args.bf16}")
    print(f"step {flops / rate:.3f} s, {flops / 1e9:.1f} GFLOP: {rate / 1e9:.1f} GFLOP/s")
    print(f"fp32 GEMM {gemm / 1e9:.1f} GFLOP/s; the step uses {100 * rate / gemm:.0f} % of it (medians)")


if __name__ == "__main__":
    main(tyro.cli(Args))
