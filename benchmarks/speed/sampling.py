"""Frames per second and PSNR against the number of denoising steps, with and without shortcut training.

    python benchmarks/speed/sampling.py --checkpoints runs/plain runs/shortcut --data data/recall

All checkpoints are measured on the same held-out episodes of the store, one step ahead of the real frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
import tyro

from lssvwm_bench.figures import markdown_table
from lssvwm_bench.stopwatch import seconds_of
from lssvwm_rl.data.clips import hold_out
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.measures.psnr import psnr
from lssvwm_rl.model.checkpoints import load_world_model
from lssvwm_rl.model.predict import predict_every_frame
from lssvwm_rl.training.cpu import tune_process


@dataclass(frozen=True)
class Args:
    """What is compared."""

    checkpoints: tuple[str, ...]
    data: Path
    steps: tuple[int, ...] = (1, 2, 4, 8)
    episodes: int = 32
    threads: int = 2


def main(args: Args) -> None:
    """Print a table."""
    torch.set_num_threads(args.threads)
    tune_process()
    store = EpisodeStore(args.data)
    episodes = [store[i] for i in hold_out(store)[1][: args.episodes]]
    real = np.concatenate([e.frames[1:] for e in episodes])
    rows = []
    for name in args.checkpoints:
        model = load_world_model(name)
        for steps in args.steps:
            predicted = np.concatenate(predict_every_frame(model, episodes, steps))
            memory, noise = model.initial_memory(1), [torch.Generator().manual_seed(0)]
            dream = partial(model.imagine, memory, torch.zeros(1, dtype=torch.int64), noise, steps)
            rate = 1 / median(seconds_of(dream) for _ in range(30))
            rows.append([name, str(steps), f"{psnr(predicted, real):.2f}", f"{rate:.1f}"])
    print(markdown_table(["checkpoint", "denoising steps", "PSNR (dB)", "frames/s, batch 1"], rows))


if __name__ == "__main__":
    main(tyro.cli(Args))
