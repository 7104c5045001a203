"""One progress bar for everything that takes long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Update(Protocol):
    """Tells a bar how far the work is."""

    def __call__(self, done: float, total: float, note: str = "") -> None:
        """`done` of `total`, and a few words or numbers beside the bar."""


@contextmanager
def progress_bar(description: str) -> Iterator[Update]:
    """A bar with the time left, as a function to call with the progress."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}")) as bar:
        task = bar.add_task(description, total=None, note="")

        def update(done: float, total: float, note: str = "") -> None:
            bar.update(task, completed=min(done, total), total=total, note=note)

        yield update
