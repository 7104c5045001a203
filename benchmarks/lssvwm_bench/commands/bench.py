"""`lssvwm bench NAME`: run a bench and write what it finds."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from lssvwm_bench.bench import Bench, bench_summaries, find_bench, run_bench
from lssvwm_rl.command import Command

B = TypeVar("B", bound=Bench)


@dataclass(frozen=True)
class Options(Generic[B]):
    """A bench's settings are options without a prefix."""

    settings: Annotated[B, tyro.conf.arg(name="")]
    out: Path | None = None
    """New folder for tables, plots and videos; runs/bench-NAME if not given."""


def names() -> dict[str, str]:
    """Name -> one line about it, of all benches."""
    return bench_summaries()


def command(name: str) -> Command:
    """That of the bench with this name."""
    settings: Any = find_bench(name)
    module = sys.modules[settings.__module__]

    def measure(options: Options) -> None:
        run_bench(name, options.settings, options.out or Path(f"runs/bench-{name}"))

    return Command(
        f"lssvwm bench {name}",
        Options[settings],
        measure,
        getattr(module, "RENAMED", {}),
        about=inspect.getdoc(settings),
        example=getattr(module, "EXAMPLE", None),
    )
