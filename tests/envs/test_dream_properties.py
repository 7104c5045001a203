"""Dreams against a naive reference: states are values, rows are apart, and all forms and modes dream the same."""

from __future__ import annotations

import copy
import itertools
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import PROGRAMS, REFUSED, Op, bits, check_program, programs, seed_of
from small_models import BACKBONE, EVEN, end_some, untrained_checkpoint

from lssvwm_envs.autoreset import row_of
from lssvwm_envs.dream import DreamEnv
from lssvwm_envs.dream_state import DreamState
from lssvwm_envs.dream_vector import DreamVectorEnv
from lssvwm_envs.sb3 import DreamVecEnv
from lssvwm_rl.checkpoints import resolve_checkpoint
from lssvwm_rl.world_model import WorldModel

KINDS = ("block_ssm", "window", "causal")
TRAINED = "minigrid-memory"
HORIZON = 6
SETTINGS: dict[str, Any] = {"context_length": 3, "horizon": HORIZON, "denoise_steps": 1, "observation": "both"}
MODES = list(AutoresetMode)


def examples(n: int):
    return settings(max_examples=n, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory) -> Callable[..., str]:
    """Checkpoints of a kind; `even` ones have sizes as real models do, see `EVEN`."""
    torch.set_num_threads(1)
    made: dict[tuple, str] = {}

    def make(kind: str = "block_ssm", even: bool = False, vectors: int = 0, ends: float = 0.2) -> str:
        key = kind, even, vectors, ends
        if key not in made:
            backbone = replace(EVEN if even else replace(BACKBONE, blocks=(1, 2)), kind=kind)
            keys = {"told": vectors} if vectors else None
            changes = {"backbone": backbone, "readout_size": 32 if even else 12}
            made[key] = untrained_checkpoint(tmp_path_factory.mktemp(kind), keys, ends, **changes)
        return made[key]

    return make


@pytest.fixture(scope="module")
def trained_that_ends(tmp_path_factory) -> str:
    """The shipped checkpoint, but a fifth of the steps ends a dream: without that, its ends are too rare for a test."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("ends") / TRAINED
    shutil.copytree(resolve_checkpoint(TRAINED), folder)
    model = WorldModel.from_pretrained(folder)
    end_some(model, 0.2)
    model.save_pretrained(folder)
    return str(folder)


class DreamPlayer:
    """Programs on a single dream. A kept state is a value, a file and a copy of the environment."""

    ways = 5

    def __init__(self, checkpoint: str, folder: Path):
        self.checkpoint, self.folder = checkpoint, folder

    def make(self) -> DreamEnv:
        return DreamEnv(self.checkpoint, **SETTINGS)

    def play(self, env: DreamEnv, op: Op, over: Any) -> tuple[Any, Any]:
        if op[0] == "reset":
            return env.reset(seed=seed_of(op)), False
        if over:
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
class Seen:
    """One row's step."""

    observation: Any
    reward: float
    terminated: bool
    truncated: bool
    probability: float


@dataclass
class First:
    """What a row shows when it begins anew."""

    observation: Any
    context: int


class Rows:
    """A vector of dreams in any autoreset mode, seen as its rows' episodes; infos and masks are checked on the way."""

    def __init__(self, envs: DreamVectorEnv):
        self.envs, self.over = envs, np.zeros(envs.num_envs, bool)
        self.view: Any = None
        """What was returned last, with what a restored row must show."""

    def reset(self, mask: np.ndarray | None = None, seed: Any = None) -> dict[int, First]:
        self.view, info = self.envs.reset(seed=seed, options=None if mask is None else {"reset_mask": mask})
        mask = np.ones(self.envs.num_envs, bool) if mask is None else mask
        self.over = self.over & ~mask
        return self._begun(info, mask)

    def set_state(self, row: int, state: DreamState):
        self.envs.set_state(row, state)
        self.over[row] = state.ended
        self.view = {"image": self.view["image"].copy(), "memory": self.view["memory"].copy()}
        self.view["image"][row], self.view["memory"][row] = state.frame, state.memory.readout()[0]

    def fork(self, state: DreamState, n: int, seed: int | None = None):
        self.view, _ = self.envs.fork(state, n, seed)
        self.over[:n] = state.ended

    def anew(self) -> dict[int, First]:
        """Begin anew what is over, where nobody else does."""
        disabled = self.envs.autoreset_mode == AutoresetMode.DISABLED
        return self.reset(self.over) if disabled and self.over.any() else {}

    def step(self, actions: Any) -> tuple[list[Seen | None], dict[int, First]]:
        """Every row's step, None where it only began anew; and the rows that began anew, instead of it or after it."""
        mode = self.envs.autoreset_mode
        self.view, rewards, terminated, truncated, info = self.envs.step(np.asarray(actions))
        done = terminated | truncated
        ended = done & (mode == AutoresetMode.SAME_STEP)
        fresh = self.over | ended
        assert ("final_obs" in info) == ("final_info" in info) == ended.any()
        if ended.any():
            assert np.array_equal(info["_final_obs"], ended) and np.array_equal(info["_final_info"], ended)
            assert [last is not None for last in info["final_obs"]] == ended.tolist()
        begun = self._begun(info, fresh)
        rows: list[Seen | None] = []
        for i in range(self.envs.num_envs):
            told = {key for key in info if key[0] != "_" and info["_" + key][i]}
            if self.over[i]:
                assert told == {"context_episode"} and rewards[i] == 0 and not done[i]
                rows.append(None)
            else:
                expected = {"context_episode", "final_obs", "final_info"} if ended[i] else {"terminated_probability"}
                assert told == expected
                last, inside = (info["final_obs"][i], info["final_info"]) if ended[i] else (self.row(i), info)
                assert inside["_terminated_probability"][i]
                parts = rewards[i], terminated[i], truncated[i], inside["terminated_probability"][i]
                rows.append(Seen(last, *parts))
        self.over = done & ~ended
        return rows, begun

    def row(self, i: int) -> Any:
        """What row i showed last."""
        return row_of(self.view, i)

    def _begun(self, info: dict[str, Any], mask: np.ndarray) -> dict[int, First]:
        assert ("context_episode" in info) == mask.any()
        assert not mask.any() or np.array_equal(info["_context_episode"], mask)
        return {i: First(self.row(i), info["context_episode"][i]) for i in np.flatnonzero(mask).tolist()}


def row_bits(row: Seen | First | None) -> Any:
    return None if row is None else bits(list(vars(row).values()))


def bits_anywhere(row: Seen | First | None) -> Any:
    """What equal rows of one batch have in common: all but the probability, a sum of one column, and only `EVEN`."""
    return row_bits(replace(row, probability=0.0) if isinstance(row, Seen) else row)


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
            assert self.kept[-1].ended == self.over[row]
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


def alike(a: Any, b: Any):
    """Whether observations are equal up to the rounding of sums in another order, as trained models forward it."""
    assert np.mean(np.abs(a["image"].astype(int) - b["image"]) <= 1) > 0.999
    np.testing.assert_allclose(a["memory"], b["memory"], atol=1e-3)


def assert_alike(a: Seen, b: Seen):
    alike(a.observation, b.observation)
    assert abs(a.reward - b.reward) <= 1e-3 and abs(a.probability - b.probability) <= 1e-3
    assert (a.terminated, a.truncated) == (b.terminated, b.truncated)


class Singles:
    """Single dreams beside each other, as `Rows` with autoreset disabled."""

    def __init__(self, checkpoint: str, n: int, **settings: Any):
        self.envs = [DreamEnv(checkpoint, **settings) for _ in range(n)]
        self.over = [False] * n

    def reset(self, seed: int) -> dict[int, First]:
        return {i: self._reset(i, seed + i) for i in range(len(self.envs))}

    def anew(self) -> dict[int, First]:
        return {i: self._reset(i, None) for i, over in enumerate(self.over) if over}

    def step(self, actions: Any) -> tuple[list[Seen], dict[int, First]]:
        seen = []
        for i, env in enumerate(self.envs):
            observation, reward, terminated, truncated, info = env.step(actions[i])
            seen.append(Seen(observation, reward, terminated, truncated, info["terminated_probability"]))
            self.over[i] = terminated or truncated
        return seen, {}

    def _reset(self, i: int, seed: int | None) -> First:
        self.over[i] = False
        observation, info = self.envs[i].reset(seed=seed)
        return First(observation, info["context_episode"])


class Listed:
    """`Rows` of a dream for Stable-Baselines3."""

    def __init__(self, checkpoint: str, n: int, **settings: Any):
        self.envs = DreamVecEnv(checkpoint, n, **settings)

    def reset(self, seed: int) -> dict[int, First]:
        self.envs.seed(seed)
        observation = self.envs.reset()
        return {
            i: First(row_of(observation, i), info["context_episode"]) for i, info in enumerate(self.envs.reset_infos)
        }

    def anew(self) -> dict[int, First]:
        return {}

    def step(self, actions: Any) -> tuple[list[Seen], dict[int, First]]:
        observation, rewards, dones, infos = self.envs.step(np.asarray(actions))
        seen, begun = [], {}
        for i, (done, info) in enumerate(zip(dones, infos, strict=True)):
            assert ("terminal_observation" in info) == done
            last = info.get("terminal_observation", row_of(observation, i))
            cut = info["TimeLimit.truncated"]
            seen.append(Seen(last, rewards[i], bool(done) and not cut, cut, info["terminated_probability"]))
            if done:
                begun[i] = First(row_of(observation, i), self.envs.reset_infos[i]["context_episode"])
        return seen, begun


@examples(3)
@given(seed=st.integers(0, 999), length=st.integers(1, 3), moved=st.integers(0, 4))
def test_rows_dream_what_single_dreams_do_however_many_there_are(seed, length, moved):
    """With the shipped model: random weights would amplify the rounding of batches, whose sums have another order."""
    torch.set_num_threads(1)
    chosen = {**SETTINGS, "context_length": length}
    singles = Singles(TRAINED, 5, **chosen)
    vectors = {n: Rows(DreamVectorEnv(TRAINED, n, **chosen)) for n in (1, 2, 3, 5)}
    single_of = {n: np.arange(n) for n in vectors}
    actions = np.random.default_rng(seed).integers(0, 7, (HORIZON, 5))
    firsts = singles.reset(seed=seed)
    for rows in vectors.values():
        for i, first in rows.reset(seed=seed).items():
            assert_begun_alike(first, firsts[i])
    for t in range(HORIZON):
        if t == 3:  # states move: from vectors to singles, and from singles to other rows
            states = [env.get_state() for env in singles.envs]
            singles.envs[moved].set_state(vectors[5].envs.get_state(moved))
            for n in (1, 2, 3):
                row = moved % n
                vectors[n].set_state(row, states[4 - moved])
                single_of[n][row] = 4 - moved
        wanted, _ = singles.step(actions[t])
        for n, rows in vectors.items():
            seen, _ = rows.step(actions[t, single_of[n]])
            for i in range(n):
                assert_alike(seen[i], wanted[single_of[n][i]])
        if any(singles.over):
            break


def played(rows: Any, n: int, seed: int, actions: np.ndarray) -> list[list[tuple[First, list[Seen]]]]:
    """Whole episodes of every row; its actions (n, episodes, steps) are chosen by row, episode and step."""
    episodes: list[list[tuple[First, list[Seen]]]] = [[] for _ in range(n)]

    def begin(begun: dict[int, First]):
        for i, first in begun.items():
            episodes[i].append((first, []))

    begin(rows.reset(seed=seed))
    while min(len(row) for row in episodes) <= actions.shape[1]:
        begin(rows.anew())
        at = [
            (i, (len(row) - 1) % actions.shape[1], len(row[-1][1]) % actions.shape[2]) for i, row in enumerate(episodes)
        ]
        seen, begun = rows.step([actions[place] for place in at])
        for i, step in enumerate(seen):
            if step is not None:
                episodes[i][-1][1].append(step)
        begin(begun)
    return [row[: actions.shape[1]] for row in episodes]


def in_all_modes(checkpoint: str, n: int, **settings: Any) -> list[Any]:
    modes = [Rows(DreamVectorEnv(checkpoint, n, autoreset_mode=mode, **settings)) for mode in MODES]
    return [*modes, Listed(checkpoint, n, **settings)]


def assert_begun_alike(a: First, b: First):
    assert a.context == b.context and np.array_equal(a.observation["image"], b.observation["image"])
    alike(a.observation, b.observation)


@examples(5)
@given(n=st.integers(1, 3), seed=st.integers(0, 99), kind=st.sampled_from(KINDS))
def test_all_ways_to_begin_anew_dream_the_same_bits_where_rows_end_together(untrained, n, seed, kind):
    """One row, or rows that only the horizon ends: resets are then of the same number of rows in every mode."""
    checkpoint = untrained(kind, ends=0.2 if n == 1 else 0.0)
    actions = np.random.default_rng(seed).integers(0, 4, (n, 3, HORIZON))
    ways = [*in_all_modes(checkpoint, n, **SETTINGS), *([Singles(checkpoint, 1, **SETTINGS)] if n == 1 else [])]
    first, *others = [
        [
            [row_bits(tidy(part)) for part in (begun, *steps)]
            for row in played(way, n, seed, actions)
            for begun, steps in row
        ]
        for way in ways
    ]
    for other in others:
        assert other == first


def tidy(row: Any) -> Any:
    """In one dtype, and with what Stable-Baselines3 can tell: a dream that ended at its horizon only ended."""
    if isinstance(row, First):
        return First(row.observation, int(row.context))
    ended = bool(row.terminated), bool(row.truncated and not row.terminated)
    return Seen(row.observation, np.float32(row.reward), *ended, np.float32(row.probability))


@examples(2)
@given(n=st.sampled_from([2, 3]), seed=st.integers(0, 999))
def test_all_ways_to_begin_anew_dream_the_same_episodes(trained_that_ends, n, seed):
    chosen = {**SETTINGS, "horizon": 4}
    actions = np.random.default_rng(seed).integers(0, 7, (n, 3, 4))
    wanted, *others = [
        played(way, n, seed, actions)
        for way in (Singles(trained_that_ends, n, **chosen), *in_all_modes(trained_that_ends, n, **chosen))
    ]
    for episodes in others:
        for row, other in zip(wanted, episodes, strict=True):
            for (first, steps), (other_first, other_steps) in zip(row, other, strict=True):
                assert_begun_alike(first, other_first)
                for step, other_step in zip(steps, other_steps, strict=True):
                    assert_alike(tidy(step), tidy(other_step))


@pytest.mark.parametrize("mode", MODES)
@examples(4)
@given(seed=st.integers(0, 99), observation=st.sampled_from(["image", "memory", "both"]))
def test_tensors_are_what_arrays_are_and_may_be_written_to(untrained, mode, seed, observation):
    chosen = {**SETTINGS, "observation": observation, "autoreset_mode": mode}
    arrays, tensors = (DreamVectorEnv(untrained(vectors=3), 3, **chosen) for _ in range(2))
    rng = np.random.default_rng(seed)
    for envs in (arrays, tensors):
        envs.reset(seed=seed)
    ends = 0
    for _ in range(2 * HORIZON):
        actions = rng.integers(0, 4, 3)
        *result, info = arrays.step(actions)
        *others, told = tensors.step_torch(torch.from_numpy(actions))
        assert only_tensors(others) and only_tensors(told)
        assert bits(result) == bits(to_arrays(others))
        inside = info.get("final_info", info)
        for name in ("terminated_probability", "vector"):
            assert bits(inside[name]) == bits(told[name].numpy())
        done = result[2] | result[3]
        ends += done.sum()
        expected = {"terminated_probability", "vector"}
        if mode == AutoresetMode.SAME_STEP:
            expected |= {"final_obs", "_final_obs"}
            assert np.array_equal(told["_final_obs"].numpy(), done)
            for i in np.flatnonzero(done):
                assert bits(info["final_obs"][i]) == bits(row_of(to_arrays(told["final_obs"]), i))
        assert told.keys() == expected
        shown = result[0]["image"] if observation == "both" else result[0] if observation == "image" else None
        shown = None if shown is None else shown.copy()
        scribble([result, info, others, told])
        if shown is not None:
            for envs in (arrays, tensors):
                assert all(np.array_equal(envs.get_state(i).frame, shown[i]) for i in range(3))
        if mode == AutoresetMode.DISABLED and done.any():
            again = [envs.reset(options={"reset_mask": done.copy()}) for envs in (arrays, tensors)]
            assert bits(again[0]) == bits(again[1])
            scribble(again)
    assert ends > 3


def only_tensors(value: Any) -> bool:
    if isinstance(value, (dict, list)):
        return all(only_tensors(part) for part in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, torch.Tensor)


def to_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: to_arrays(part) for key, part in value.items()}
    return [to_arrays(part) for part in value] if isinstance(value, list) else value.numpy()


def scribble(value: Any):
    """Overwrite everything that was returned."""
    if isinstance(value, (dict, list, tuple)):
        for part in value.values() if isinstance(value, dict) else value:
            scribble(part)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        scribble([part for part in value if part is not None])
    elif isinstance(value, torch.Tensor):
        value.fill_(1)
    elif isinstance(value, np.ndarray):
        value.fill(1)
