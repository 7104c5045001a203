"""Milliseconds of a dreamt frame: ONNX Runtime against the engines, turn by turn.

    lssvwm export --checkpoint minigrid-memory --format onnx --out dreams
    python benchmarks/speed/onnx_graphs.py --checkpoint minigrid-memory --folder dreams

All of them dream the same frame from the same memory, with the noise drawn before, and in `threads` threads.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
import torch
import tyro

from lssvwm_bench.figures import markdown_table
from lssvwm_bench.speed.dreams import noise, seen
from lssvwm_bench.stopwatch import interleaved, speedup
from lssvwm_rl.model.checkpoints import load_world_model
from lssvwm_rl.model.engine import make_engine
from lssvwm_rl.training.cpu import tune_process


@dataclass(frozen=True)
class Args:
    """What is compared."""

    checkpoint: str
    folder: Path
    """Its ONNX graphs."""
    engines: tuple[str, ...] = ("torch", "native")
    turns: int = 40
    threads: int = 1


def main(args: Args) -> None:
    """Print a table."""
    torch.set_num_threads(args.threads)
    tune_process()
    about = json.loads((args.folder / "lssvwm.json").read_text())
    rows, steps, graph = about["batch_size"], about["denoise_steps"], about["graphs"]["step"]
    model = load_world_model(args.checkpoint)
    memory, action = seen(model, rows, args.checkpoint), torch.zeros(rows, dtype=torch.int64)
    drawn = model.draw_noise(noise(rows))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(args.folder / graph["file"], options, providers=["CPUExecutionProvider"])
    tensors = {**memory.tensors(), "action": action, "noise": drawn}
    feed = {name: tensors[name].numpy() for name in graph["inputs"]}
    ways: dict[str, Callable[[], Any]] = {}
    for name in args.engines:
        ways[name] = partial(make_engine(model, name).imagine, memory, action, drawn, steps)
    ways["onnxruntime"] = lambda: session.run(graph["outputs"], feed)[0]
    results = {name: run() for name, run in ways.items()}
    frames = {name: np.asarray(getattr(found, "frame", found)).astype(int) for name, found in results.items()}
    times = interleaved(ways, args.turns)
    first = next(iter(times.values()))
    table = [
        [
            name,
            f"{1000 * median(seconds):.2f}",
            f"{speedup(first, seconds):.2f}x",
            str(int(np.abs(frames[name] - frames[args.engines[0]]).max())),
        ]
        for name, seconds in times.items()
    ]
    print(f"{args.checkpoint}, {rows} rows, {steps} denoising steps, {args.threads} threads, {args.turns} turns")
    print(markdown_table(["", "ms per step", f"against {args.engines[0]}", "grey levels apart"], table))


if __name__ == "__main__":
    main(tyro.cli(Args))
