"""How commands speak: a bar for everything that takes long, lines about what goes on, and a last line.

Bars are drawn on standard error and only where that is a terminal, so what is written to a pipe or a file has neither
bars nor control characters. `lssvwm COMMAND --quiet` leaves only the last line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from shlex import quote
from typing import Protocol

Say = Callable[[str], None]
"""Takes a line about what goes on."""

_silent = False  # of the process: threads of a command are as quiet as the command


class Update(Protocol):
    """Tells a bar how far the work is."""

    def __call__(self, done: float, total: float, note: str = "") -> None:
        """`done` of `total`, and a few words or numbers beside the bar."""


@contextmanager
def silence() -> Iterator[None]:
    """No bars are drawn and no lines said while the block runs; `finish` is heard."""
    global _silent
    before, _silent = _silent, True
    try:
        yield
    finally:
        _silent = before


def say(text: str) -> None:
    """Print a line about what goes on, unless it shall be quiet."""
    if not _silent:
        print(text, flush=True)


def finish(text: str, then: Sequence[object] = ()) -> None:
    """Print the last line of a command.

    Args:
        text: sentences that say what was written where.
        then: words (texts, paths, numbers) of the command that one would call next, if there is one. It ends the
            line, quoted for a shell.
    """
    following = f" Next: {' '.join(quote(str(word)) for word in then)}" if then else ""
    print(f"{text}{following}", flush=True)


@contextmanager
def progress_bar(description: str, unit: str = "") -> Iterator[Update]:
    """A bar with the rate and the time left, as a function to call with the progress.

    Args:
        description: what is done.
        unit: what is counted, in the plural, for example "episodes".
    """
    if _silent or not sys.stderr.isatty():
        yield _unheard
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    texts = [TextColumn(f"{{task.{of}}}", markup=False) for of in ("description", "fields[count]", "fields[note]")]
    columns = (texts[0], BarColumn(), texts[1], TimeRemainingColumn(), texts[2])
    # What is printed beside a bar goes where it would go without, above the bar if that is the terminal.
    console, beside = Console(stderr=True), sys.stdout.isatty()
    with Progress(*columns, console=console, redirect_stdout=beside) as bar:
        task = bar.add_task(description, total=None, count="", note="")

        def update(done: float, total: float, note: str = "") -> None:
            bar.update(task, completed=min(done, total), total=total, note=note)
            speed = bar.tasks[0].speed if (bar.tasks[0].elapsed or 0) > 1 else None  # of few it means nothing
            bar.update(task, count=counted(min(done, total), total, unit, speed))

        yield update


def counted(done: float, total: float, unit: str = "", speed: float | None = None) -> str:
    """How far something is, and how fast it goes: "12/100 episodes, 3.4/s"; what is slow is counted by the minute."""
    text = f"{done:,.0f}/{total:,.0f} {unit}".rstrip()
    if not speed:
        return text
    rate, per = (speed, "s") if speed >= 1 else (60 * speed, "min")
    return f"{text}, {f'{rate:,.0f}' if rate >= 100 else f'{rate:.1f}'}/{per}"


def _unheard(done: float, total: float, note: str = "") -> None:
    """Where there is no bar."""
