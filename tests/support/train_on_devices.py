"""Trains small models as one of the processes that `torchrun` starts: python ... STORE OUT [STRATEGY].

Writes OUT/NAME/losses.json for each of `TRAININGS`, with the loss of every update, and OUT/heard-RANK.json with what
the process of that rank heard while it trained "shards": what was measured, and which averages it was given to write.
With a strategy only "shards" is trained: until `BROKEN`, or on from there with the strategy if it has been.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast
from unittest import mock

import torch
from torch.distributed.tensor import DTensor

from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.measures.rollouts import one_step_psnr
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training import trainer
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.run import Run
from lssvwm_rl.training.trainer import train
from support.small_models import SMALL_RESERVOIR, small_config

CONFIG = TrainConfig(
    batch_size=2, span=5, steps=5, log_every=2, warmup=2, preview_every=0, decay=0.0, device="cpu", devices=2,
    precision="64-true",
)  # fmt: skip
TRAININGS = {
    "clips": CONFIG,
    "stream": dataclasses.replace(CONFIG, stream=True, span=3),
    "shards": dataclasses.replace(
        CONFIG, strategy="fsdp", activation_checkpointing=True, preview_every=4, measure_every=2
    ),
    "shards-stream": dataclasses.replace(CONFIG, strategy="fsdp", stream=True, span=3),
}
BROKEN = 4
"""Updates before a training is stopped and goes on."""


def main(store: EpisodeStore, out: Path) -> None:
    """All trainings, one after the other; each in a run of its own."""
    for name, config in TRAININGS.items():
        losses: list[float] = []
        model = small_config(reservoir=SMALL_RESERVOIR) if "stream" not in name else small_config()
        heard: dict[str, list[Any]] = {"measured": [], "to_write": []}
        callbacks = [partial(measured, store, heard["measured"])] if name == "shards" else []
        for steps in (BROKEN, config.steps) if config.stream else (config.steps,):
            part = dataclasses.replace(config, steps=steps)
            with noted_averages(heard["to_write"]):
                run = train(store, out / name, model, None, part, callbacks, lambda at, to=losses: to.append(at.loss))
        if name == "shards":
            (out / f"heard-{os.environ['RANK']}.json").write_text(json.dumps(heard))
        if losses:  # only the first process hears of them
            (run / "losses.json").write_text(json.dumps(losses))


def measured(store: EpisodeStore, heard: list[dict[str, float]], model: WorldModel, step: int) -> dict[str, float]:
    """What a callback is given has to be whole: its weights, and what comes of dreaming one step with them."""
    assert not any(isinstance(weight, DTensor) for weight in model.state_dict().values())
    sizes = [weight.double().abs().sum().item() for weight in model.parameters()]
    found = {"sizes": sum(sizes), "psnr": one_step_psnr(model, [store[1], store[4]])["dream"]}
    heard.append({"step": step, **found})
    return found


@contextmanager
def noted_averages(heard: list[bool]) -> Iterator[None]:
    """Note whether there was an average, whenever one was asked for to be written or shown."""
    ask = Run.written_average

    def noted(run: Run) -> WorldModel | None:
        found = ask(run)
        heard.append(found is not None)
        return found

    with mock.patch.object(Run, "written_average", noted):
        yield


def train_shards(store: EpisodeStore, out: Path, strategy: Literal["ddp", "fsdp"]) -> None:
    """The first part of "shards", or the rest."""
    steps = CONFIG.steps if (out / "shards").exists() else BROKEN
    config = dataclasses.replace(TRAININGS["shards"], strategy=strategy, steps=steps)
    train(store, out / "shards", small_config(reservoir=SMALL_RESERVOIR), None, config)


if __name__ == "__main__":
    torch.set_num_threads(1)
    trainer.gemm_rate = lambda device: 1e9
    folders = EpisodeStore(sys.argv[1]), Path(sys.argv[2])
    if sys.argv[3:]:
        train_shards(*folders, strategy=cast(Any, sys.argv[3]))
    else:
        main(*folders)
