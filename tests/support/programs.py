"""Random programs of steps, resets, saves and restores, and the naive reference they are checked against."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from hypothesis import strategies as st

Op = tuple[Any, ...]
REFUSED = "refused"


def programs(names: Sequence[str], numbers: int, min_size: int, max_size: int) -> st.SearchStrategy[list[Op]]:
    """Lists of operations: a name, drawn as often as it is listed, and numbers of which it takes what it needs."""
    op = st.tuples(st.sampled_from(names), *[st.integers(0, 59)] * numbers)
    return st.lists(op, min_size=min_size, max_size=max_size)


PROGRAMS = programs(["step"] * 5 + ["keep"] * 2 + ["restore"] * 3 + ["reset"] * 2, 2, 16, 26)


def bits(value: Any) -> Any:
    """A value that is equal only for what is equal bit for bit, with dtypes and shapes."""
    if isinstance(value, torch.Tensor):
        return "tensor", bits(value.numpy())
    if isinstance(value, dict):
        return tuple((key, bits(part)) for key, part in sorted(value.items()))
    if isinstance(value, (tuple, list)):
        return tuple(bits(part) for part in value)
    if isinstance(value, np.ndarray) and value.dtype == object:
        return tuple(bits(part) for part in value)
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.ascontiguousarray(value)
        shown = repr(array.tolist()) if array.size < 8 else hashlib.blake2b(array.tobytes(), digest_size=8).hexdigest()
        return str(array.dtype), np.shape(value), shown
    if isinstance(value, str) or value is None:
        return value
    return type(value).__name__, repr(value)


class Player(Protocol):
    """How a program is played on one kind of environment."""

    ways: int
    """How many ways to restore there are."""

    def make(self) -> Any:
        """A new environment."""

    def play(self, env: Any, op: Op, ended: Any) -> tuple[Any, Any]:
        """Do "step" or "reset"; what the environment returned (the observation first) or REFUSED, and what ended."""

    def keep(self, env: Any) -> Any:
        """A state to restore."""

    def restore(self, env: Any, state: Any, way: int) -> tuple[Any, Any]:
        """The environment that goes on from a state, and what it showed of it, if anything."""


def check_program(player: Player, program: Sequence[Op]) -> None:
    """Play a program; wherever it went, a new environment comes by the same history without any restore."""
    env = player.make()
    history: tuple[Op, ...] = (("reset", 7, 0),)
    result, ended = player.play(env, history[0], None)
    seen: dict[tuple[Op, ...], Any] = {history: bits(result)}
    view, kept = bits(result[0]), []
    for op in program:
        if op[0] == "keep":
            kept.append((history, ended, view, player.keep(env)))
        elif op[0] == "restore":
            if kept:
                history, ended, view, state = kept[op[1] % len(kept)]
                env, shown = player.restore(env, state, op[2] % player.ways)
                assert shown is None or bits(shown) == view
        else:
            history = (op,) if op[0] == "reset" and seed_of(op) is not None else (*history, op)
            result, ended = player.play(env, op, ended)
            assert seen.setdefault(history, bits(result)) == bits(result), history
            view = view if result is REFUSED else bits(result[0])
    for whole in seen:
        if any(other[: len(whole)] == whole for other in seen if other != whole):
            continue  # a longer history comes by
        env, ended = player.make(), None
        for n, op in enumerate(whole, 1):
            result, ended = player.play(env, op, ended)
            assert bits(result) == seen[whole[:n]], whole[:n]


def seed_of(op: Op) -> int | None:
    """Of a reset; None goes on with the generator there is."""
    return op[1] if op[1] % 2 else None
