"""Single, vector and listed dreams dream the same, however they begin anew, in arrays and in tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.vector import DreamVectorEnv
from lssvwm_envs.rows import row_of
from lssvwm_envs.sb3 import DreamVecEnv
from support.fp64 import fp64_models
from support.programs import bits
from support.rows import (
    HORIZON,
    KINDS,
    MODES,
    SETTINGS,
    TRAINED,
    First,
    Rows,
    Seen,
    alike,
    assert_alike,
    examples,
    row_bits,
)


class Singles:
    """Single dreams beside each other, as `Rows` with autoreset disabled."""

    def __init__(self, checkpoint: str, n: int, **settings: Any):
        self.envs = [DreamEnv(checkpoint, **settings) for _ in range(n)]
        self.ended = [False] * n

    def reset(self, seed: int) -> dict[int, First]:
        return {i: self._reset(i, seed + i) for i in range(len(self.envs))}

    def anew(self) -> dict[int, First]:
        return {i: self._reset(i, None) for i, ended in enumerate(self.ended) if ended}

    def step(self, actions: Any) -> tuple[list[Seen], dict[int, First]]:
        seen = []
        for i, env in enumerate(self.envs):
            observation, reward, terminated, truncated, info = env.step(actions[i])
            seen.append(Seen(observation, reward, terminated, truncated, info["terminated_probability"]))
            self.ended[i] = terminated or truncated
        return seen, {}

    def _reset(self, i: int, seed: int | None) -> First:
        self.ended[i] = False
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
@fp64_models()
def test_rows_dream_what_single_dreams_do_however_many_there_are(seed, length, moved):
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
        if any(singles.ended):
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
@fp64_models()
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
