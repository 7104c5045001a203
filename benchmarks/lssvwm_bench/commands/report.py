"""`lssvwm report`: one HTML file about a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

EXAMPLE = "lssvwm report runs/model"


@dataclass(frozen=True)
class Report:
    """Write one HTML file about a run: how it learnt, what it remembers and dreams, its agent, costs and commands."""

    run: Annotated[str, tyro.conf.Positional]
    """Folder of a run, finished or not, of an exported checkpoint, or the name of a packaged one."""
    out: Path | None = None
    """The file, .html; RUN/report/report.html if not given."""


def main(args: Report) -> None:
    """Measure and write.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it is no run, or `out` is no .html file.
    """
    from lssvwm_bench.report import write_report
    from lssvwm_rl.progress import finish
    from lssvwm_rl.training.cpu import tune_process

    tune_process()
    path = write_report(args.run, args.out)
    finish(f"Report written to {path} ({path.stat().st_size / 1e6:.1f} MB); open it in a browser.")
