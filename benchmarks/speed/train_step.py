"""The train step's arithmetic rate against the fp32 GEMM rate of the same run.

python benchmarks/train_step.py [--preset tiny] [--batch 16] [--span 32]
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
import tyro
from lssvwm_bench.cost import gemm_rate, random_batch
from torch.utils.flop_counter import FlopCounterMode

from lssvwm_rl.data.store import StoreHeader
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.cpu import tune_process
from lssvwm_rl.training.objective import Objective, ObjectiveConfig
from lssvwm_rl.training.presets import model_config


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
    torch.manual_seed(0)
    header = StoreHeader((args.frame, args.frame, 3), {"type": "Discrete", "n": 7, "start": 0})
    model = WorldModel(model_config(args.preset, header))
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
        started = time.perf_counter()
        step()
        rates.append(flops / (time.perf_counter() - started))
    rate, gemm = sorted(rates)[args.repeats // 2], sorted(gemms)[args.repeats // 2]
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{args.preset}: {parameters / 1e6:.2f} M parameters, {args.batch} x {args.span} frames, bf16 {args.bf16}")
    print(f"step {flops / rate:.3f} s, {flops / 1e9:.1f} GFLOP: {rate / 1e9:.1f} GFLOP/s")
    print(f"fp32 GEMM {gemm / 1e9:.1f} GFLOP/s; the step uses {100 * rate / gemm:.0f} % of it (medians)")


if __name__ == "__main__":
    main(tyro.cli(Args))
