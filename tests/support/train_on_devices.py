"""Trains small models as one of the processes that `torchrun` starts: python ... STORE OUT [STRATEGY].

Writes OUT/NAME/losses.json for each of `TRAININGS`, with the loss of every update. With a strategy only "shards" is
trained: until `BROKEN`, or on from there with the strategy if it has been.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Literal, cast

import torch

from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.training import trainer
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.trainer import train
from support.small_models import SMALL_RESERVOIR, small_config

CONFIG = TrainConfig(
    batch_size=2, span=5, steps=5, log_every=2, warmup=2, preview_every=0, decay=0.0, device="cpu", devices=2,
    precision="64-true",
)  # fmt: skip
TRAININGS = {
    "clips": CONFIG,
    "stream": dataclasses.replace(CONFIG, stream=True, span=3),
    "shards": dataclasses.replace(CONFIG, strategy="fsdp", activation_checkpointing=True, preview_every=4),
    "shards-stream": dataclasses.replace(CONFIG, strategy="fsdp", stream=True, span=3),
}
BROKEN = 4
"""Updates before a training is stopped and goes on."""


def main(store: EpisodeStore, out: Path) -> None:
    """All trainings, one after the other; each in a run of its own."""
    for name, config in TRAININGS.items():
        losses: list[float] = []
        model = small_config(reservoir=SMALL_RESERVOIR) if "stream" not in name else small_config()
        for steps in (BROKEN, config.steps) if config.stream else (config.steps,):
            part = dataclasses.replace(config, steps=steps)
            run = train(store, out / name, model, None, part, on_progress=lambda at, to=losses: to.append(at.loss))
        if losses:  # only the first process hears of them
            (run / "losses.json").write_text(json.dumps(losses))


def part(store: EpisodeStore, out: Path, strategy: Literal["ddp", "fsdp"]) -> None:
    """The first part of "shards", or the rest."""
    steps = CONFIG.steps if (out / "shards").exists() else BROKEN
    config = dataclasses.replace(TRAININGS["shards"], strategy=strategy, steps=steps)
    train(store, out / "shards", small_config(reservoir=SMALL_RESERVOIR), None, config)


if __name__ == "__main__":
    torch.set_num_threads(1)
    trainer.gemm_rate = lambda device: 1e9
    folders = EpisodeStore(sys.argv[1]), Path(sys.argv[2])
    if sys.argv[3:]:
        part(*folders, strategy=cast(Any, sys.argv[3]))
    else:
        main(*folders)
