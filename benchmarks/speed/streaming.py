"""Peak memory of an update against the length of the episode: streamed in chunks, and as one clip.

    python benchmarks/speed/streaming.py [--lengths 128 512 2048]

Every figure comes from a process of its own that goes through one episode per row, forward and backward.
"""

from __future__ import annotations

import resource
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import torch
import tyro

from lssvwm_bench.processes import in_own_process
from lssvwm_bench.stopwatch import seconds_of
from lssvwm_bench.workload import random_batch, untrained_model
from lssvwm_rl.training.objective import Objective, ObjectiveConfig


@dataclass(frozen=True)
class Args:
    """Sizes of the comparison."""

    lengths: tuple[int, ...] = (128, 512, 2048)
    """Frames per episode."""
    span: int = 64
    """Frames per chunk."""
    batch: int = 4
    preset: str = "tiny"
    frame: int = 64


def measure(args: Args, way: str, length: int) -> str:
    """Peak MB above the start and milliseconds per frame of one way, measured in this process."""
    model = untrained_model(args.preset, args.frame)
    generator, span = torch.Generator(), args.span if way == "streamed" else length
    objective = Objective(model, ObjectiveConfig(), recompute=way == "recomputed")
    before = _peak()

    def update() -> None:
        memory = model.initial_memory(args.batch)
        for _ in range(length // span):
            batch = random_batch(model, args.batch, span)
            losses, memory, _ = objective(batch, memory, generator)
            losses["total"].backward()
            model.zero_grad()

    ms = 1e3 * seconds_of(update) / (args.batch * length)
    return f"{_peak() - before:7.0f} MB {ms:5.2f} ms"


def _peak() -> float:
    """MB of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(args: Args) -> None:
    """Print a table."""
    print(f"{args.preset}, {args.batch} episodes, chunks of {args.span} frames: peak MB above the start, ms per frame")
    for length in args.lengths:
        row = []
        for way in ("streamed", "whole", "recomputed"):
            try:
                row.append(f"{way} {in_own_process(measure, args, way, length)}")
            except BrokenProcessPool:
                row.append(f"{way}: killed")
            except RuntimeError as error:  # out of memory
                row.append(f"{way}: {str(error).splitlines()[0]}")
        print(f"{length:5d} frames   " + "   ".join(row))


if __name__ == "__main__":
    main(tyro.cli(Args))
