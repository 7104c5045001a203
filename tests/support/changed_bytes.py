"""Files with one bit changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np


def one_bit_changed(path: Path, times: int, first: int = 0, every: int = 1) -> Iterator[int]:
    """Change a bit of a file so many times, each time another one and alone; in the end the file is as it was.

    Args:
        first: of so many bytes at the beginning every k-th is changed, besides the random ones.
        every: k.
    """
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    places = [*range(0, min(first, len(whole)), every), *rng.choice(len(whole), times).tolist()]
    for at in places:
        changed = bytearray(whole)
        changed[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        yield at
    path.write_bytes(whole)
