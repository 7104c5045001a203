"""Kills, neighbours, fuzzed calls and changed files, so many of each; what came of it as JSON and as a table.

    PYTHONPATH=benchmarks:tests python benchmarks/soak/run.py [--kills 5] [--calls 2000] [--out soak.json]

Worlds and broken inputs are those of the tests, in tests/support.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

from lssvwm_rl.files import write_text
from soak.corruptions import make_artefacts, soak_corruptions
from soak.fuzz import soak_calls
from soak.kills import COLLECT, TRAIN, Command, commands, run_for, soak_kills
from soak.neighbours import soak_neighbours
from soak.outcome import Outcome, outcome_table


@dataclass(frozen=True)
class Args:
    """How much of everything; 0 leaves it out."""

    kills: int = 5
    """SIGKILLs in each of collect, train and agent loop."""
    stores: int = 3
    """Two collectors at a time on each."""
    calls: int = 2_000
    """Of environments, with valid and invalid arguments."""
    corruptions: int = 200
    """Of files of a store, a checkpoint, a policy, the state of a dream and that of a training."""
    seed: int = 0
    out: Path | None = None
    """JSON file; the table is written beside it, as .md."""


def main(args: Args) -> int:
    """Do it all, print the table and whatever went wrong, and return how much that was.

    Raises:
        ValueError: for negative numbers.
        RuntimeError: if a command fails where nobody disturbs it.
    """
    if min(args.kills, args.stores, args.calls, args.corruptions) < 0:
        raise ValueError(f"Counts must be at least 0, got {args}.")
    torch.set_num_threads(1)
    began, outcomes = time.monotonic(), list[Outcome]()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        for part in _parts(args, folder):
            done = part()
            print(outcome_table(done), flush=True)
            outcomes += done
            _write(args, outcomes, time.monotonic() - began)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\nAll:\n\n{outcome_table(outcomes)}")
    wrong = [f"{each.what}: {what}" for each in outcomes for what in each.wrong]
    print("\n".join(wrong))
    return len(wrong)


def _parts(args: Args, folder: Path) -> Iterator[Callable[[], list[Outcome]]]:
    store, run = folder / "store", folder / "run"
    if args.kills or args.corruptions:
        _prepare(store, run, folder / "said")
    if args.kills:
        for k, command in enumerate(commands(store, run)):
            yield lambda k=k, command=command: [  # type: ignore[misc]
                soak_kills(command, args.kills, args.seed + k, folder / f"kills-{k}")
            ]
    if args.stores:
        yield lambda: [soak_neighbours(args.stores, args.seed, folder / "neighbours")]
    if args.calls:
        yield lambda: soak_calls(args.calls, args.seed, folder / "worlds")
    if args.corruptions:
        (folder / "artefacts").mkdir()
        yield lambda: soak_corruptions(make_artefacts(run, folder / "artefacts"), args.corruptions, args.seed)


def _prepare(store: Path, run: Path, said: Path) -> None:
    """A store and a run, by the commands themselves."""
    for name, words, out in (("collect", [*COLLECT, "12"], store), ("train", [*TRAIN, "--data", str(store)], run)):
        if run_for(Command(name, words, "", lambda *_: iter(())), out, said, None) != 0:
            raise RuntimeError(f"lssvwm {name} fails: {said.read_text()[-1_000:]}")


def _write(args: Args, outcomes: list[Outcome], seconds: float) -> None:
    """Everything so far, so that a long soak that is interrupted leaves what it found."""
    if args.out is None:
        return
    settings = {name: value for name, value in asdict(args).items() if name != "out"}
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    about = {"settings": settings, "machine": machine, "minutes": seconds / 60}
    write_text(args.out, json.dumps({**about, "outcomes": [asdict(each) for each in outcomes]}, indent=1) + "\n")
    write_text(args.out.with_suffix(".md"), outcome_table(outcomes) + "\n")


if __name__ == "__main__":
    sys.exit(1 if main(tyro.cli(Args)) else 0)
