"""`lssvwm bench NAME`: run a bench and write what it finds."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from lssvwm_bench.bench import Bench, bench_summaries, find_bench, run_bench
from lssvwm_rl.cli import listed, run

B = TypeVar("B", bound=Bench)


@dataclass(frozen=True)
class Options(Generic[B]):
    """A bench's settings are options without a prefix."""

    settings: Annotated[B, tyro.conf.arg(name="")]
    out: Path | None = None
    """New folder for tables, plots and videos; runs/bench-NAME if not given."""


def main(words: list[str]) -> None:
    """Run the bench that the first word names with the options that follow; without a word, list all."""
    known, name = bench_summaries(), words[0] if words else "--help"
    if name in ("-h", "--help"):
        print(f"usage: lssvwm bench NAME [options]   (lssvwm bench NAME --help shows them)\n\n{listed(known)}")
        return
    if name not in known:
        print(f"lssvwm: there is no bench {name!r}.\n{listed(known)}", file=sys.stderr)
        raise SystemExit(2)
    settings: Any = find_bench(name)

    def measure(options: Options) -> None:
        run_bench(name, options.settings, options.out or Path(f"runs/bench-{name}"))

    renamed = getattr(sys.modules[settings.__module__], "RENAMED", {})
    run(f"lssvwm bench {name}", Options[settings], measure, words[1:], renamed, about=inspect.getdoc(settings))
