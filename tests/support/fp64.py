"""Environments whose world models compute in fp64, where rows in batches of any size are the same rows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from lssvwm_envs.dream import model_cache
from lssvwm_rl.model.checkpoints import load_world_model
from lssvwm_rl.model.engine import make_engine

ONCE_ROUNDED = 1e-6
"""Readouts and rewards leave environments as fp32, numbers of up to about 1: a unit is 6e-8."""


@functools.lru_cache(maxsize=4)
def _load(folder: Path, changed: int, device: str, engine: str, process: int) -> model_cache.SharedEngine:
    return model_cache.SharedEngine(folder, make_engine(load_world_model(folder, device).double(), engine))


@contextmanager
def fp64_models() -> Iterator[None]:
    """What is made inside has models in fp64; also a decorator of tests, below `given`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_cache, "_load", _load)
        yield


def fp64_for(kind: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`fp64_models` where a test is of this kind of model."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**arguments: Any) -> None:
            with fp64_models() if arguments["kind"] == kind else nullcontext():
                test(**arguments)

        return run

    return decorate
