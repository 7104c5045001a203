"""The train step's arithmetic rate against the fp32 GEMM rate of the same run, of one backend or several side by side.

python benchmarks/speed/train_step.py [--preset tiny] [--batch 16] [--span 32] [--backend torch native]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import torch
import tyro
from torch.utils.flop_counter import FlopCounterMode

from lssvwm_bench.stopwatch import gemm_rate, seconds_of
from lssvwm_bench.workload import parameter_count, random_batch, untrained_model
from lssvwm_rl.model.world_model import WorldModel
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
    backend: tuple[str, ...] = ("auto",)
    """Of several, each step of the first is followed by one of the others, and their ratios are printed."""


def make_step(args: Args, model: WorldModel) -> Callable[[], None]:
    """One update of a model on always the same batch."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    batch = random_batch(model, args.batch, args.span)
    objective = Objective(model, ObjectiveConfig())

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            losses, _ = objective(batch, None, torch.Generator().manual_seed(0))
        losses["total"].backward()
        optimizer.step()

    return step


def with_backend(model: WorldModel, backend: str) -> WorldModel:
    """A copy whose layers another backend computes."""
    config = replace(model.config, backbone=replace(model.config.backbone, backend=backend))
    copy = WorldModel(config)
    copy.load_state_dict(model.state_dict())
    return copy


def main(args: Args) -> None:
    """Print the rates and their ratios; GEMM and steps alternate, since the machine's speed drifts."""
    torch.set_num_threads(args.threads)
    tune_process()
    model = untrained_model(args.preset, args.frame)
    with FlopCounterMode(display=False) as counter:  # which sees the products of PyTorch alone
        make_step(args, with_backend(model, "torch"))()
    flops = counter.get_total_flops()
    steps = {backend: make_step(args, with_backend(model, backend)) for backend in args.backend}
    for step in steps.values():
        step()
    gemms, seconds = [], {backend: list[float]() for backend in steps}
    for _ in range(args.repeats):
        gemms.append(gemm_rate())
        for backend, step in steps.items():
            seconds[backend].append(seconds_of(step))
    gemm, millions = median(gemms), parameter_count(model) / 1e6
    print(f"{args.preset}: {millions:.2f} M parameters, {args.batch} x {args.span} frames, bf16 {args.bf16}")
    print(f"fp32 GEMM {gemm / 1e9:.1f} GFLOP/s, {flops / 1e9:.1f} GFLOP in a step of backend torch (medians)")
    first = seconds[args.backend[0]]
    for backend, times in seconds.items():
        rate, ratio = flops / median(times), median(a / b for a, b in zip(first, times, strict=True))
        print(
            f"{backend}: step {median(times):.3f} s, {rate / 1e9:.1f} GFLOP/s, {100 * rate / gemm:.0f} % of GEMM, "
            f"{ratio:.2f} x {args.backend[0]}"
        )


if __name__ == "__main__":
    main(tyro.cli(Args))
