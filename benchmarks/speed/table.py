"""The table of speed: the reference algebra in plain PyTorch against what replaces it, turn by turn.

    python benchmarks/speed/table.py [--rows dream train ...] [--out table.md] [--settings.baseline PATH]

A ratio is the median over turns of the time before over the time now; times are medians. "env", "cem" and "ppo" are
compared with another source tree, for example a `git worktree` of an older commit, if --settings.baseline names one.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro

from lssvwm_bench.speed import accuracy, agents, dreams, limits, peers, trainings
from lssvwm_bench.speed.rows import ROWS, Line, Settings, table
from lssvwm_rl.files import write_text
from lssvwm_rl.training.cpu import tune_process

MODULES = (dreams, trainings, agents, limits, accuracy, peers)  # which register their rows


@dataclass(frozen=True)
class Args:
    """Which rows, and how."""

    rows: tuple[str, ...] = ()
    """Names of rows; all if none are given."""
    out: Path | None = None
    """Markdown file, written anew after every row."""
    threads: int = 2
    settings: Settings = field(default_factory=Settings)


def main(args: Args) -> None:
    """Print every line when it is known, and the table at the end.

    Raises:
        ValueError: for a row that does not exist.
    """
    unknown = set(args.rows) - set(ROWS)
    if unknown:
        raise ValueError(f"Rows {sorted(unknown)} do not exist; use some of {', '.join(ROWS)}.")
    torch.set_num_threads(args.threads)
    tune_process()
    head = f"{platform.processor() or platform.machine()}, {args.threads} threads, torch {torch.__version__}"
    lines: list[Line] = []
    for name in args.rows or ROWS:
        for line in ROWS[name](args.settings):
            lines.append(line)
            print("  ".join(line.cells()), flush=True)
        if args.out is not None:
            write_text(args.out, f"{head}\n\n{table(lines)}\n")
    print(f"\n{head}\n\n{table(lines)}")


if __name__ == "__main__":
    main(tyro.cli(Args))
