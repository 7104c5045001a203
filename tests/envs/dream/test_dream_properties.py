"""Dreams against a naive reference: states are values, and rows are apart."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.state import DreamState
from lssvwm_envs.dream.vector import DreamVectorEnv
from lssvwm_envs.rows import row_of
from support.fp64 import fp64_for, fp64_models
from support.programs import PROGRAMS, REFUSED, Op, bits, check_program, programs, seed_of
from support.rows import (
    HORIZON,
    KINDS,
    MODES,
    SETTINGS,
    First,
    Rows,
    Seen,
    assert_alike,
    bits_anywhere,
    examples,
    row_bits,
)


class DreamPlayer:
    """Programs on a single dream. A kept state is a value, a file and a copy of the environment."""

    ways = 5

    def __init__(self, checkpoint: str, folder: Path):
        self.checkpoint, self.folder = checkpoint, folder

    def make(self) -> DreamEnv:
        return DreamEnv(self.checkpoint, **SETTINGS)

    def play(self, env: DreamEnv, op: Op, ended: Any) -> tuple[Any, Any]:
        if op[0] == "reset":
            return env.reset(seed=seed_of(op)), False
        if ended:
            before = bits(env.get_state().memory.tensors())
            with pytest.raises(gym.error.ResetNeeded):
                env.step(op[1] % 4)
            assert env.get_state().ended and bits(env.get_state().memory.tensors()) == before
            return REFUSED, True
        result = env.step(op[1] % 4)
        return result, result[2] or result[3]

    def keep(self, env: DreamEnv) -> tuple[DreamState, Path, DreamEnv]:
        path = self.folder / f"{len(list(self.folder.iterdir()))}.safetensors"
        env.save_state(path)
        return env.get_state(), path, copy.deepcopy(env)

    def restore(self, env: DreamEnv, state: tuple[DreamState, Path, DreamEnv], way: int) -> tuple[DreamEnv, Any]:
        value, path, copied = state
        shown = None
        if way == 0:
            env.set_state(value)
        elif way == 1:
            shown, _ = env.reset(options={"state": value})
        elif way == 2:
            env.load_state(path)
        elif way == 3:
            env = copy.deepcopy(copied)
        else:
            env = self.make()
            env.load_state(path)
        return env, shown


@pytest.mark.parametrize("kind", KINDS)
@examples(12)
@given(program=PROGRAMS)
def test_a_restored_dream_goes_on_as_its_history_says(untrained, tmp_path_factory, kind, program):
    check_program(DreamPlayer(untrained(kind), tmp_path_factory.mktemp("states")), program)


@dataclass
class Trace:
    """What one row dreamt from a known point on, and the episode in which it began anew of itself, if it did."""

    row: int
    begin: Callable[[Rows], None]
    actions: list[int]
    seen: list[Any]
    then: int | None = None


def replay(rows: Rows, traces: list[Trace]):
    """Dream traces of different rows again, beside each other; what the other rows do is of no account."""
    n = rows.envs.num_envs
    rows.reset(seed=99)
    for trace in traces:
        trace.begin(rows)
    for t in range(max(len(trace.actions) for trace in traces) + 1):
        for trace in traces:
            if t == len(trace.actions) and trace.then is not None:
                assert rows.reset(np.arange(n) == trace.row)[trace.row].context == trace.then
        running = {trace.row: trace for trace in traces if t < len(trace.actions)}
        if running:
            seen, _ = rows.step([running[i].actions[t] if i in running else 3 for i in range(n)])
        for i, trace in running.items():
            assert row_bits(seen[i]) == trace.seen[t], (i, t)


VECTOR_PROGRAMS = programs(["step"] * 6 + ["keep", "restore"] * 2 + ["fork", "reset"], 3, 16, 26)


class TracedRows(Rows):
    """Plays programs; every known point begins a trace, which ends where its row goes elsewhere."""

    def __init__(self, envs: DreamVectorEnv):
        super().__init__(envs)
        self.kept: list[DreamState] = []
        self.traces: list[Trace] = []
        self.open: list[list[Trace]] = [[] for _ in range(envs.num_envs)]

    def play(self, op: Op):
        name, a, b, c = op
        n = self.envs.num_envs
        row, before, untouched = a % n, self.view, np.ones(n, bool)
        state = self.kept[b % len(self.kept)] if self.kept else None
        if name == "keep":
            self.kept.append(self.envs.get_state(row))
            assert self.kept[-1].ended == self.ended[row]
            self._open(row, self.kept[-1], lambda rows, s=self.kept[-1]: rows.set_state(row, s))
        elif name == "restore" and state is not None:
            self.set_state(row, state)
            self._close({row: None})
            self._open(row, state, lambda rows: rows.set_state(row, state))
            untouched[row] = False
        elif name == "fork" and state is not None:
            seed = c if c % 2 else None
            self.fork(state, row + 1, seed)
            untouched[: row + 1] = False
            for i in range(row + 1):
                self._close({i: None})
                self._open(i, state, lambda rows, k=i + 1: rows.fork(state, k, seed))
                assert np.array_equal(self.row(i)["image"], state.frame)
        elif name == "reset" and b % 2**n:
            untouched = np.array([not b >> i & 1 for i in range(n)])
            seed = c if c % 2 else None
            begun = self.reset(~untouched, seed)
            self._close({i: first if seed is None else None for i, first in begun.items()})
        else:
            self._step([(a + i * b) % 4 for i in range(n)])
            return
        assert all(bits(self.row(i)) == bits(row_of(before, i)) for i in np.flatnonzero(untouched))

    def _step(self, actions: list[int]):
        self._close(self.anew())
        seen, begun = self.step(actions)
        for i, action in enumerate(actions):
            for trace in self.open[i] if seen[i] else []:
                trace.actions.append(action)
                trace.seen.append(row_bits(seen[i]))
        self._close(begun)

    def _close(self, begun: Mapping[int, First | None]):
        for row, first in begun.items():
            for trace in self.open[row]:
                trace.then = None if first is None else first.context
            self.open[row] = []

    def _open(self, row: int, state: DreamState, begin: Callable[[Rows], None]):
        self.traces.append(Trace(row, begin, [], []))
        self.open[row].append(self.traces[-1])


def ended_state(checkpoint: str) -> DreamState:
    env = DreamEnv(checkpoint, **{**SETTINGS, "horizon": 1})
    env.reset(seed=5)
    env.step(0)
    return env.get_state()


@pytest.mark.parametrize("mode", MODES)
@examples(8)
@given(program=VECTOR_PROGRAMS, n=st.sampled_from([2, 3]), kind=st.sampled_from(["block_ssm", "window"]))
def test_rows_that_are_restored_or_forked_go_on_bit_for_bit(untrained, kind, program, n, mode):
    """In the same row of as many: elsewhere only sizes like `EVEN`'s give equal sums."""
    rows = TracedRows(DreamVectorEnv(untrained(kind), n, **SETTINGS, autoreset_mode=mode))
    rows.reset(seed=7)
    rows.kept.append(ended_state(untrained(kind)))
    for op in program:
        rows.play(op)
    by_row = [[trace for trace in rows.traces if trace.row == i] for i in range(n)]
    for together in itertools.zip_longest(*by_row):
        # A fork of a row also begins those before it, so the last one comes first.
        chosen = [trace for trace in reversed(together) if trace is not None]
        replay(Rows(DreamVectorEnv(untrained(kind), n, **SETTINGS)), chosen)


OPERATIONS = ("nothing", "restore", "fork", "fork anew", "reset", "reset with state", "reset with context")


@pytest.mark.parametrize("op", OPERATIONS)
@examples(5)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 99), shift=st.integers(0, 2))
@fp64_for("causal")
def test_rows_that_are_not_named_dream_what_they_would_have(untrained, kind, op, seed, shift):
    """To the bit, but for causal models: how far their rows look back together decides in which order sums are made."""
    twins = [Rows(DreamVectorEnv(untrained(kind, ends=0.0), 3, **SETTINGS)) for _ in range(2)]
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, 4, (HORIZON - 1, 3))
    context = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8), rng.integers(0, 4, 2)
    named = np.roll([True, shift == 2, False], 0 if op.startswith("fork") else shift)
    for rows in twins:
        rows.reset(seed=seed)
        rows.step(actions[0])
        state = rows.envs.get_state(1)
        rows.step(actions[1])
        if rows is twins[1]:
            continue
        if op == "restore":
            for i in np.flatnonzero(named).tolist():
                rows.set_state(i, state)
        elif op.startswith("reset"):
            options = {"reset": {}, "reset with state": {"state": state}, "reset with context": {"context": context}}
            rows.view, _ = rows.envs.reset(options={**options[op], "reset_mask": named})
        elif op.startswith("fork"):
            rows.fork(state, named.sum(), seed if op == "fork anew" else None)
    changed = [bits(twins[0].row(i)) != bits(twins[1].row(i)) for i in range(3)]
    assert changed == ([False] * 3 if op == "nothing" else named.tolist())
    for t in range(2, HORIZON - 1):
        (seen, _), (others, _) = (rows.step(actions[t]) for rows in twins)
        for i in range(3):
            if op == "nothing" or (not named[i] and kind != "causal"):
                assert row_bits(seen[i]) == row_bits(others[i])
            elif not named[i]:
                assert_alike(seen[i], others[i])


@pytest.mark.parametrize("kind", KINDS)
@examples(5)
@given(n=st.sampled_from([2, 3, 4]), seed=st.integers(0, 99), count=st.integers(0, 3))
@fp64_models()
def test_a_fork_dreams_what_its_origin_would_have(untrained, kind, n, seed, count):
    envs = [DreamVectorEnv(untrained(kind, even=True), n, **SETTINGS) for _ in range(2)]
    rng, origin, fork = np.random.default_rng(seed), *(Rows(env) for env in envs)
    origin.reset(seed=seed)
    for _ in range(count):
        origin.step(rng.integers(0, 4, n))
    row = int(rng.integers(n))
    state = envs[0].get_state(row)
    plans = rng.integers(0, 4, (5, n))  # column `row` is what the origin goes on with
    wanted = [origin.step(actions)[0][row] for actions in plans]
    alive = next((t for t, seen in enumerate(wanted) if seen is None), len(wanted))

    def assert_wanted(seen: Seen | None, t: int):
        if t >= alive:
            return
        if kind == "causal":  # the origin's rows looked back as far as the oldest of them
            assert_alike(seen, wanted[t])
        else:
            assert bits_anywhere(seen) == bits_anywhere(wanted[t])

    fork.fork(state, n)
    alike = [fork.step([actions[row]] * n) for actions in plans]
    for t, (seen, begun) in enumerate(alike):  # through ends, after which all begin anew alike
        assert {bits_anywhere(one) for one in seen} == {bits_anywhere(seen[0])}
        assert {bits_anywhere(one) for one in begun.values()} <= {bits_anywhere(begun.get(0))}
        assert_wanted(seen[0], t)
    assert len({first.context for first in fork.reset().values()}) == 1

    mine = int(rng.integers(n))
    fork.fork(state, n)
    for t, actions in enumerate(plans[:alive]):
        actions = np.where(np.arange(n) == mine, actions[row], np.roll(actions, 1))
        assert_wanted(fork.step(actions)[0][mine], t)


@pytest.mark.parametrize("kind", KINDS)
@examples(3)
@given(n=st.sampled_from([2, 3, 4]), seed=st.integers(0, 99))
@fp64_models()
def test_a_fork_with_a_seed_dreams_something_else_in_every_row_and_the_same_again(untrained, kind, n, seed):
    checkpoint = untrained(kind, even=True, ends=0.0)
    origin = DreamEnv(checkpoint, **SETTINGS)
    origin.reset(seed=seed)
    origin.step(1)
    state = origin.get_state()

    def futures(seed: int) -> list[Any]:
        """Of every row what it dreams after the fork, and how it begins anew later."""
        rows = Rows(DreamVectorEnv(checkpoint, n, **SETTINGS))
        rows.fork(state, n, seed)
        steps = [rows.step([action] * n)[0] for action in (2, 0)]
        begun = rows.reset()
        return [(*(bits_anywhere(seen[i]) for seen in steps), bits(begun[i].context)) for i in range(n)]

    some, others = futures(seed), futures(seed + n)
    assert some == futures(seed) and others == futures(seed + n)
    for t in range(2):
        assert len({future[t] for future in some + others}) == 2 * n
    assert len({future[2] for future in some + others}) > 1
    assert futures(seed + 1)[:-1] == some[1:], "row i has seed + i"
