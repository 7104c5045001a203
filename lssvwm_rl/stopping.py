"""Signals that ask a process to stop: what is under way ends well, and whoever started it is told."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal asked the process to stop, and what was done is kept. Like any KeyboardInterrupt it is no error.

    Args:
        number: of the signal.
        text: what was reached, and how to go on.
    """

    def __init__(self, number: int, text: str = "stopped; what was finished is kept"):
        super().__init__(text)
        self.code = 128 + number  # the exit code that shells give

    def __str__(self) -> str:
        return str(self.args[0])


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """A list to which the numbers of signals are added, for work that stops by itself when it can."""
    noted: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        noted.append(number)

    with _handlers(note, STOPPING):
        yield noted


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM ends the block with `Stopped`, as SIGINT does with KeyboardInterrupt, so that what it leaves is whole."""
    home = os.getpid()

    def stop(number: int, _: FrameType | None) -> None:
        if os.getpid() == home:
            raise Stopped(number)
        signal.signal(number, signal.SIG_DFL)  # a forked worker, which ends as one does
        os.kill(os.getpid(), number)

    with _handlers(stop, (signal.SIGTERM,)):
        yield


@contextmanager
def _handlers(handler: Any, numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # which alone hears signals
        yield
        return
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
