"""What work costs: wall time and peak memory of a phase, seconds of a call, and of calls that alternate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import psutil
import torch

SAMPLE_SECONDS = 0.2


@dataclass
class Cost:
    """Filled in while and after the phase runs."""

    seconds: float = 0.0
    peak_bytes: int = 0


@contextmanager
def measure() -> Iterator[Cost]:
    """Measure the block: wall time, and the largest resident memory of this process, sampled five times a second."""
    process, cost, finished = psutil.Process(), Cost(), threading.Event()

    def sample() -> None:
        while True:
            cost.peak_bytes = max(cost.peak_bytes, process.memory_info().rss)
            if finished.wait(SAMPLE_SECONDS):
                return

    thread = threading.Thread(target=sample, daemon=True)
    started = time.perf_counter()
    thread.start()
    try:
        yield cost
    finally:
        finished.set()
        thread.join()
        cost.peak_bytes = max(cost.peak_bytes, process.memory_info().rss)
        cost.seconds = time.perf_counter() - started


def seconds_of(run: Callable[[], object], device: str | torch.device = "cpu") -> float:
    """Wall time of a call, waiting for a CUDA device before and after."""
    on_cuda = torch.device(device).type == "cuda"
    if on_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if on_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def interleaved(ways: Mapping[str, Callable[[], object]], repeats: int, device: str = "cpu") -> dict[str, list[float]]:
    """Seconds of calls that alternate, so that a machine whose speed drifts does so for all.

    A way's turn is two calls, of which the second counts: the first one finds the caches and the waiting threads that
    another way has left behind, which no user of one way meets.

    Returns:
        `repeats` times for each way, turn by turn.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            way()
            times[name].append(seconds_of(way, device))
    return times


def speedup(before: Sequence[float], after: Sequence[float]) -> float:
    """Median over turns of the time before over the time after: what slows the machine slows both of one turn."""
    return median(a / b for a, b in zip(before, after, strict=True))
