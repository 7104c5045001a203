"""Tables of what was done in each step: CSV with a header line, or JSON Lines."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

TABLES = (".csv", ".jsonl")
TRUE, FALSE = ("true", "1", "1.0"), ("false", "0", "0.0")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a table; values of a CSV are texts, and empty ones are None.

    Raises:
        ValueError: if it cannot be read as such, or has no rows.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        rows = _csv(text) if path.suffix.lower() == ".csv" else _json_lines(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 (byte {error.start}); save it as such.") from error
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a table: {error}; correct it.") from error
    if not rows:
        raise ValueError(f"{path} has no rows; write one for each action.")
    return rows


def _csv(text: str) -> list[dict[str, Any]]:
    lines = [line for line in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True) if line]
    if not lines:
        return []
    names = [name.strip() for name in lines[0]]
    if len(set(names)) < len(names):
        raise ValueError(f"a column is named twice in {', '.join(names)}")
    for number, line in enumerate(lines[1:]):
        if len(line) != len(names):
            raise ValueError(f"row {number} has {len(line)} values for {len(names)} columns")
    return [{name: value.strip() or None for name, value in zip(names, line, strict=True)} for line in lines[1:]]


def _json_lines(text: str) -> list[dict[str, Any]]:
    rows = []
    # Not `splitlines`, which also splits at characters that texts in JSON may hold.
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text)):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number + 1} is no JSON") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number + 1} is no object with names")
        rows.append(row)
    return rows


def has_value(row: dict[str, Any], columns: Sequence[str]) -> bool:
    """Whether a row says something in one of the columns."""
    return any(row.get(column) is not None for column in columns)


def numbers(rows: Sequence[dict[str, Any]], columns: Sequence[str], path: Path) -> np.ndarray:
    """(N, A) of columns side by side, of which a column may hold lists: int64 if all are whole numbers, else float64.

    Raises:
        ValueError: if a column is missing, or holds what is no number, or lists of different lengths.
    """
    found: list[list[int | float]] = []
    for number, row in enumerate(rows):
        missing = [column for column in columns if column not in row]
        if missing:
            raise ValueError(f"{path} has no column {missing[0]!r} in row {number}, only {', '.join(row)}; add it.")
        values: list[int | float] = []
        for column in columns:
            value = row[column]
            for each in value if isinstance(value, list) else [value]:
                values.append(_number(each, f"{column!r} of row {number} of {path}"))
        if not values:
            raise ValueError(f"{columns[0]!r} of row {number} of {path} is an empty list; write a number.")
        if found and len(values) != len(found[0]):
            raise ValueError(f"Row {number} of {path} has {len(values)} numbers, not {len(found[0])}; correct it.")
        found.append(values)
    whole = all(isinstance(value, int) for values in found for value in values)
    try:
        return np.array(found, np.int64 if whole else np.float64)
    except OverflowError as error:
        raise ValueError(f"A number of {', '.join(columns)} of {path} has more than 64 bits; correct it.") from error


def truths(rows: Sequence[dict[str, Any]], column: str, path: Path) -> np.ndarray:
    """(N,) bool of a column, False where it says nothing or there is none.

    Raises:
        ValueError: if it holds something else than true, false, 1 and 0.
    """
    found = np.zeros(len(rows), np.bool_)
    for number, row in enumerate(rows):
        value = row.get(column)
        text = "false" if value is None else str(value).lower()
        if text not in (*TRUE, *FALSE):
            raise ValueError(f"{column!r} of row {number} of {path} is {value!r}; write true or false.")
        found[number] = text in TRUE
    return found


def _number(value: Any, what: str) -> int | float:
    try:
        if isinstance(value, bool) or value is None:
            raise ValueError
        if isinstance(value, int | float):
            return value
        if "_" in value:  # which Python's numbers may have
            raise ValueError
        try:
            return int(value)
        except ValueError:
            return float(value)
    except (ValueError, TypeError):
        shown = "empty" if value is None else repr(value)
        raise ValueError(f"{what} is {shown}; write a number.") from None
