"""Files with one bit changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np


def one_bit_changed(path: Path, times: int, first: int = 0) -> Iterator[int]:
    """Change a bit of a file so many times, each time another one and alone; in the end the file is as it was.

    Args:
        first: how many of the first bytes are all changed, besides the random ones.
    """
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    places = [*range(min(first, len(whole))), *rng.choice(len(whole), times).tolist()]
    for at in places:
        changed = bytearray(whole)
        changed[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        yield at
    path.write_bytes(whole)
