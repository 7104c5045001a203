"""Checkpoints of toy worlds, see small_checkpoints, and with random weights, see small_models."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from lssvwm_rl.model.checkpoint_files import resolve_checkpoint
from lssvwm_rl.model.world_model import WorldModel
from support.rows import TRAINED
from support.small_checkpoints import SOMETIMES, WORLDS, save_checkpoint
from support.small_models import BACKBONE, EVEN, end_some, untrained_checkpoint


@pytest.fixture(scope="session")
def worlds(tmp_path_factory) -> dict[str, str]:
    """A checkpoint of every world, whose dreams never terminate."""
    folder = tmp_path_factory.mktemp("worlds")
    return {world: save_checkpoint(folder / world, world) for world in WORLDS}


@pytest.fixture(scope="session")
def mortal(tmp_path_factory) -> str:
    """A checkpoint of the world "discrete" whose dreams terminate at random."""
    return save_checkpoint(tmp_path_factory.mktemp("mortal"), "discrete", ends=SOMETIMES)


@pytest.fixture(scope="session")
def untrained(tmp_path_factory) -> Callable[..., str]:
    """Checkpoints of a kind; `even` ones have sizes as real models do, see `EVEN`."""
    torch.set_num_threads(1)
    made: dict[tuple, str] = {}

    def make(kind: str = "block_ssm", even: bool = False, vectors: int = 0, ends: float = 0.2) -> str:
        key = kind, even, vectors, ends
        if key not in made:
            backbone = replace(EVEN if even else replace(BACKBONE, blocks=(1, 2)), kind=kind)
            keys = {"told": vectors} if vectors else None
            changes = {"backbone": backbone, "feature_size": 32 if even else 12}
            made[key] = untrained_checkpoint(tmp_path_factory.mktemp(kind), keys, ends, **changes)
        return made[key]

    return make


@pytest.fixture(scope="session")
def trained_that_ends(tmp_path_factory) -> str:
    """The shipped checkpoint, but a fifth of the steps ends a dream: without that, its ends are too rare for a test."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("ends") / TRAINED
    shutil.copytree(resolve_checkpoint(TRAINED), folder)
    model = WorldModel.from_pretrained(folder)
    end_some(model, 0.2)
    model.save_pretrained(folder)
    return str(folder)
