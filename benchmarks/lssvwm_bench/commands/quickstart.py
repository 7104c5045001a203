"""`lssvwm quickstart`: the whole chain on MiniGrid-MemoryS7 with a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lssvwm_rl.progress import finish

EXAMPLE = "lssvwm quickstart --out runs/quickstart"


@dataclass(frozen=True)
class Quickstart:
    """Train a small world model for three minutes, then dream, plan and act with the shipped one."""

    out: Path | None = None
    """Folder of the report; runs/quickstart if not given (runs/quickstart-smoke for --smoke)."""
    checkpoint: str = "minigrid-memory"
    """World model for all but the first part."""
    smoke: bool = False
    """Run everything in under a minute; the numbers mean nothing."""


def main(args: Quickstart) -> None:
    """Run it.

    Raises:
        ValueError: if `out` holds something else.
        FileNotFoundError: if there is no such checkpoint.
    """
    import dataclasses

    from lssvwm_bench.quickstart import QuickstartConfig, quickstart

    config = QuickstartConfig.smoke_test() if args.smoke else QuickstartConfig()
    out = args.out or Path("runs/quickstart-smoke" if args.smoke else "runs/quickstart")
    report, page = quickstart(out, dataclasses.replace(config, checkpoint=args.checkpoint))
    agent = ["lssvwm", "bench", "agent", "--policy", out / "agent"]
    finish(f"Report written to {page}, which a browser shows, and as Markdown to {report}.", agent)
