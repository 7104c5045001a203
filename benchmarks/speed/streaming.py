"""Peak memory of an update against the length of the episode: streamed in chunks, and as one clip.

    python benchmarks/streaming.py [--lengths 128 512 2048]

Every figure comes from a process of its own that goes through one episode per row, forward and backward.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from dataclasses import dataclass

import torch
import tyro
from lssvwm_bench.cost import ACTIONS, random_batch

from lssvwm_rl.data.clips import Batch
from lssvwm_rl.data.store import StoreHeader
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.objective import Objective, ObjectiveConfig
from lssvwm_rl.training.presets import model_config


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
    only: tuple[str, int] | None = None
    """(streamed, whole or recomputed; length): measure this one, in this process."""


def measure(way: str, length: int, args: Args) -> None:
    """Print peak MB above the start and seconds per frame."""
    torch.manual_seed(0)
    header = StoreHeader((args.frame, args.frame, 3), ACTIONS)
    model = WorldModel(model_config(args.preset, header))
    generator, span = torch.Generator(), args.span if way == "streamed" else length
    memory = model.initial_memory(args.batch)
    objective = Objective(model, ObjectiveConfig(), recompute=way == "recomputed")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    for _ in range(length // span):
        batch: Batch = random_batch(model, args.batch, span)
        losses, memory = objective(batch, memory, generator)
        losses["total"].backward()
        model.zero_grad()
    seconds = (time.perf_counter() - started) / (args.batch * length)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1e3 * seconds)


def main(args: Args) -> None:
    """Print a table."""
    if args.only is not None:
        return measure(*args.only, args)
    print(f"{args.preset}, {args.batch} episodes, chunks of {args.span} frames: peak MB above the start, ms per frame")
    for length in args.lengths:
        row = []
        for way in ("streamed", "whole", "recomputed"):
            settings = ["--span", str(args.span), "--batch", str(args.batch), "--preset", args.preset]
            settings += ["--frame", str(args.frame)]
            command = [sys.executable, __file__, *settings, "--only", way, str(length)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                row.append(f"{way}: killed" if done.returncode < 0 else f"{way}: {done.stderr.splitlines()[-1]}")
                continue
            peak, ms = map(float, done.stdout.split())
            row.append(f"{way} {peak:7.0f} MB {ms:5.2f} ms")
        print(f"{length:5d} frames   " + "   ".join(row))


if __name__ == "__main__":
    main(tyro.cli(Args))
