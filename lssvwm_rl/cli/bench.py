"""`lssvwm bench`: what models cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lssvwm_rl.evaluation.cost_bench import CostConfig


@dataclass(frozen=True)
class BenchCost(CostConfig):
    """Time and memory per dreamt frame against context, prefill, and training time against span, for every kind."""

    out: Path = Path("runs/bench-cost")
    """New folder for cost.json, cost.md and cost.png."""


def main(args: BenchCost) -> None:
    """Measure and write.

    Raises:
        FileExistsError: if `out` exists.
        ValueError: for unknown kinds or presets.
    """
    import dataclasses
    import json
    import platform

    import torch

    from lssvwm_rl.cpu import tune_process
    from lssvwm_rl.evaluation.cost_bench import cost_plot, cost_table, measure_costs

    if args.out.exists():
        raise FileExistsError(f"{args.out} exists already; choose another --out or remove it.")
    tune_process()
    results = measure_costs(args, say=print)
    args.out.mkdir(parents=True)
    settings = {**dataclasses.asdict(args), "out": str(args.out)}
    machine = {"platform": platform.platform(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    (args.out / "cost.json").write_text(
        json.dumps({"settings": settings, "machine": machine, "results": results}, indent=2) + "\n"
    )
    (args.out / "cost.md").write_text(cost_table(results) + "\n")
    cost_plot(results, args.out / "cost.png")
    print(cost_table(results))
    print(f"Written to {args.out}.")
