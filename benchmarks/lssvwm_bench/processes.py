"""A call in a process of its own: for peak memory that nothing else adds to, and for trainings side by side."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import torch

T = TypeVar("T")


def in_own_process(function: Callable[..., T], *arguments: object, threads: int | None = None) -> T:
    """What a function of a module returns, called in a fresh process; scripts need `if __name__ == "__main__"`.

    Args:
        threads: of torch there; as many as it takes by itself if None.

    Raises:
        concurrent.futures.process.BrokenProcessPool: if the process is killed.
        Exception: what the function raises.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), _prepare, (threads,)) as pool:
        return pool.submit(function, *arguments).result()


def _prepare(threads: int | None) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
