"""What a phase of work costs: wall time and peak memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

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
