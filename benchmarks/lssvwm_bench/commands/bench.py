"""`lssvwm bench`: what models cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lssvwm_bench.cost import CostConfig


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

    from lssvwm_bench.cost import cost_plot, cost_table, measure_costs
    from lssvwm_bench.results import check_new_folder, write_results
    from lssvwm_rl.training.cpu import tune_process

    check_new_folder(args.out)
    tune_process()
    results = measure_costs(args, say=print)
    write_results(args.out, "cost", dataclasses.asdict(args), results, cost_table(results), cost_plot(results))
    print(cost_table(results))
    print(f"Written to {args.out}.")
