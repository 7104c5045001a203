"""Which environment seeds are for what, so that no world is both trained on and tested on. Everything that plays an
environment for data or for figures takes its seeds from here."""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "validation", "test"]
SPLITS: dict[str, range] = {
    "train": range(0, 1_000_000_000),
    "validation": range(1_000_000_000, 1_500_000_000),
    "test": range(1_500_000_000, 2_000_000_000),
}


def split_seed(split: str, k: int) -> int:
    """The seed of world k of a split.

    Raises:
        ValueError: for an unknown split, or a number that is not in it.
    """
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}; use one of {', '.join(SPLITS)}.")
    if not 0 <= k < len(SPLITS[split]):
        raise ValueError(f"The split {split!r} has seeds 0 to {len(SPLITS[split]) - 1:,}, not {k:,}; use one of these.")
    return SPLITS[split][k]
