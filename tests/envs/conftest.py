"""Checkpoints of toy worlds, see small_checkpoints."""

from __future__ import annotations

import pytest
from small_checkpoints import SOMETIMES, WORLDS, save_checkpoint


@pytest.fixture(scope="session")
def worlds(tmp_path_factory) -> dict[str, str]:
    """A checkpoint of every world, whose dreams never terminate."""
    folder = tmp_path_factory.mktemp("worlds")
    return {world: save_checkpoint(folder / world, world) for world in WORLDS}


@pytest.fixture(scope="session")
def mortal(tmp_path_factory) -> str:
    """A checkpoint of the world "discrete" whose dreams terminate at random."""
    return save_checkpoint(tmp_path_factory.mktemp("mortal"), "discrete", ends=SOMETIMES)
