"""Values that are made when they are asked for, of which those asked for last are kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any

OVERHEAD = 2048  # bytes of a value beside those of its array: the objects and the place in the table


class Recent:
    """Keeps values up to a number of bytes, and forgets the one that was not asked for the longest.

    Threads may share it: at worst they make a value twice. In another process it begins empty.

    Args:
        max_bytes: of all values; the last one is kept however large it is.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.bytes = max_bytes, 0
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def __reduce__(self) -> tuple[type[Recent], tuple[int]]:
        return Recent, (self.max_bytes,)

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of a key, which `make` makes (with `nbytes`) if it is not kept."""
        with suppress(KeyError):
            self._kept.move_to_end(key)
            return self._kept[key]
        value = make()
        self._forget(self._kept.pop(key, None))  # which another thread made at the same time
        self._kept[key] = value
        self.bytes += value.nbytes + OVERHEAD
        while self.bytes > self.max_bytes and len(self._kept) > 1:
            with suppress(KeyError):  # another thread took the last one
                self._forget(self._kept.popitem(last=False)[1])
        return value

    def _forget(self, value: Any) -> None:
        self.bytes -= 0 if value is None else value.nbytes + OVERHEAD
