"""What happens when nobody reads any more what a command writes, as in `lssvwm --help | head -3`."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

UNREAD = 128 + 13  # what shells give for SIGPIPE, which Python ignores


@contextmanager
def ends_where_nobody_reads() -> Iterator[None]:
    """End the process quietly, as programs in pipes do, where the block writes to a standard stream that is closed.

    See the note on SIGPIPE in the documentation of Python's `signal`. Other pipes, such as those of workers, may break
    as well, and that is no reason to be quiet.

    Raises:
        SystemExit: with `UNREAD`.
    """
    try:
        try:
            yield
        finally:
            _flush()
    except BrokenPipeError:
        closed = [stream for stream in (sys.stdout, sys.stderr) if _is_unread(stream)]
        if not closed:
            raise
        for stream in closed:
            _forget(stream)
        raise SystemExit(UNREAD) from None


def _flush() -> None:
    """Write what is not written yet here, where a closed pipe is heard of, and not while Python ends."""
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def _is_unread(stream: TextIO | None) -> bool:
    if stream is None or stream.closed:
        return False
    try:
        stream.flush()
        if not hasattr(select, "poll"):
            return False
        asked = select.poll()
        asked.register(stream.fileno(), select.POLLOUT)
        return any(found & (select.POLLERR | select.POLLHUP) for _, found in asked.poll(0))
    except BrokenPipeError:
        return True
    except (OSError, ValueError):  # not a stream of the operating system
        return False


def _forget(stream: TextIO) -> None:
    """Have what is still written to a stream, also while Python ends, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
