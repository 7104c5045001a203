"""learning_curve.csv: a table of figures, one row per log, for people and reports; no weights depend on it."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lssvwm_rl.checked_text import is_checked, note_growth, read_checked, remove_checked, write_checked

CURVE_FILE = "learning_curve.csv"
HOW_FAST = ("minutes", "frames_per_second", "updates_per_second", "gemm_share", "data_share")
"""Columns that are of the machine, not of the model."""


class Curve:
    """A curve that rows are appended to; rows after the resumed step are dropped, and what is no row, such as half of
    one where the disk was full.

    Raises:
        ValueError: if what is there has changed since it was written. One that is missing is warned of, and begins
            anew.
    """

    def __init__(self, out: Path, step: int):
        self.path = out / CURVE_FILE
        self.names: list[str] = []
        if self.path.is_file():
            kept = [row for row in _whole_rows(read_checked(self.path)) if int(row["step"]) <= step]
            if kept:
                self.names = list(kept[0])
            rows = ([row[name] for name in self.names] for row in kept)
            write_checked(self.path, _table(self.names, rows), grows=True)
        elif is_checked(self.path):
            warnings.warn(f"{self.path} is missing, though it was written; it begins anew.", RuntimeWarning, 2)
            remove_checked(self.path)

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row; the first one decides the columns."""
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self.names or list(row), extrasaction="ignore")
            if not self.names:
                self.names = list(row)
                writer.writeheader()
            writer.writerow({k: v if isinstance(v, int) else f"{v:.6g}" for k, v in row.items()})

    def keep(self) -> None:
        """Have a checksum cover all rows so far."""
        if self.path.is_file():
            note_growth(self.path)


def write_curve(out: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a whole curve, whose first column is "step"."""
    write_checked(out / CURVE_FILE, _table(names, rows))


def read_curve(run: Path) -> list[dict[str, float]]:
    """The rows of a run's learning_curve.csv, what is no number as NaN; none if there never was such a file.

    Raises:
        ValueError: if it has changed since it was written, or is missing.
    """
    path = run / CURVE_FILE
    if not (path.is_file() or is_checked(path)):
        return []
    return [{name: _number(text) for name, text in row.items()} for row in _whole_rows(read_checked(path))]


def _table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    if names:
        csv.writer(text).writerows([names, *rows])
    return text.getvalue()


def _whole_rows(text: str) -> list[dict[str, str]]:
    lines = [line for line in text.replace("\0", "").splitlines(keepends=True) if line.endswith("\n")]
    return [row for row in csv.DictReader(lines) if _is_whole(row)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _is_whole(row: Mapping[Any, Any]) -> bool:
    """Whether a row that was read has a step and as many values as there are columns."""
    return (row.get("step") or "").isdigit() and None not in row and None not in row.values()
