"""Signals that ask a process to stop: what is under way ends well, and whoever started it is told."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

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
    """A list to which the number of a signal is added, for work that stops by itself when it can.

    An exception in the midst of a lock, or of what Python does unseen, would leave the lock or be passed over. A second
    signal does not wait. Where the work ends before it has looked, the block ends with `Stopped`: no signal is lost.
    """
    noted: list[int] = []

    def note(number: int) -> None:
        noted.append(number)
        if len(noted) > 1:
            raise Stopped(number)

    with _handlers(note, STOPPING):
        yield noted
    if noted:
        raise Stopped(noted[0])


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM ends the block with `Stopped`, as SIGINT does with KeyboardInterrupt, so that what it leaves is whole."""

    def stop(number: int) -> None:
        raise Stopped(number)

    with _handlers(stop, (signal.SIGTERM,)):
        yield


@contextmanager
def _handlers(handler: Callable[[int], None], numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # which alone hears signals
        yield
        return
    home = os.getpid()

    def handle(number: int, _: FrameType | None) -> None:
        if os.getpid() == home:
            handler(number)
        else:
            signal.signal(number, signal.SIG_DFL)  # a forked worker, which ends as one does
            os.kill(os.getpid(), number)

    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
