"""The autoreset machine: alone, and under dreams and mazes, it does what Gymnasium's vector of single ones does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.dream.vector import DreamVectorEnv
from lssvwm_envs.memory_maze.env import MemoryMazeEnv
from lssvwm_envs.memory_maze.vector import MemoryMazeVectorEnv
from lssvwm_envs.rows import advance, check_ready_alone, merge_info, row_info, row_of, to_step_result
from support.countdown import Countdown, CountdownRows, CountdownVectorEnv
from support.rows import MODES, TRAINED

N = 3
SAME_STEP, NEXT_STEP, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED


def assert_close(a: Any, b: Any, exact: bool):
    """Of one row. Of dreams, up to the rounding of sums in another order."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_close(a[key], b[key], exact)
        return
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    if exact or a.dtype.kind not in "fu":
        assert np.array_equal(a, b)
    elif a.dtype == np.uint8:
        assert np.mean(np.abs(a.astype(int) - b) <= 1) > 0.999
    else:
        np.testing.assert_allclose(a, b, atol=1e-3)


def said(info: dict[str, Any], row: int) -> dict[str, Any]:
    """What an info with masks says of a row."""
    names = [name for name in info if not name.startswith("_") and info[f"_{name}"][row]]
    return {
        name: said(info[name], row) if isinstance(info[name], dict) else info[name][row] for name in names
    }  # fmt: skip


def assert_same_result(ours: tuple[Any, ...], theirs: tuple[Any, ...], mask: np.ndarray, exact: bool):
    """What `reset` or `step` returned, with the infos of the rows of a mask."""
    for i in range(N):
        assert_close(row_of(ours[0], i), row_of(theirs[0], i), exact)
        for part, other in zip(ours[1:-1], theirs[1:-1], strict=True):
            assert_close(part[i], other[i], exact)
        if mask[i]:
            assert_close(said(ours[-1], i), said(theirs[-1], i), exact)


def assert_as_gymnasium(ours: VectorEnv, theirs: VectorEnv, mode: AutoresetMode, steps: int, exact: bool = True):
    everyone, ended, ends = np.ones(N, bool), np.zeros(N, bool), 0

    def reset(mask: np.ndarray, seed: Any):
        options = [None if mask is everyone else {"reset_mask": mask.copy()} for _ in range(2)]
        results = [envs.reset(seed=seed, options=each) for envs, each in zip((ours, theirs), options, strict=True)]
        assert_same_result(*results, mask, exact)

    reset(everyone, 5)
    theirs.action_space.seed(0)
    for step in range(steps):
        if step == 1:  # rows come out of step, some with new seeds
            reset(np.array([False, True, False]), None)
            ended = ended & [True, False, True]
        if step == 4:
            reset(np.array([True, True, False]), [9, None, 7])
            ended = ended & [False, False, True]
        if mode == DISABLED and ended.any():
            reset(ended, None)
        actions = theirs.action_space.sample()
        results = [envs.step(actions) for envs in (ours, theirs)]
        assert_same_result(*results, everyone, exact)
        ended = results[0][2] | results[0][3]
        ends += ended.sum()
    assert ends > N, "rows end more than once"


@pytest.mark.parametrize("mode", MODES)
def test_rows_are_what_gymnasiums_vector_of_single_environments_is(mode):
    ours, theirs = CountdownVectorEnv(N, mode), SyncVectorEnv([Countdown] * N, autoreset_mode=mode)
    assert_as_gymnasium(ours, theirs, mode, 200)
    assert ours.rows.calls.count("step") == 200, "one call steps all rows, whatever ends"


@pytest.mark.parametrize("mode", MODES)
def test_mazes_are_what_gymnasiums_vector_of_single_mazes_is(mode):
    settings: dict[str, Any] = {"size": 5, "image_size": 16, "max_steps": 3, "extra_obs": True}
    theirs = SyncVectorEnv([lambda: MemoryMazeEnv(**settings)] * N, autoreset_mode=mode)
    assert_as_gymnasium(MemoryMazeVectorEnv(N, autoreset_mode=mode, **settings), theirs, mode, 30)


@pytest.mark.parametrize("mode", MODES)
def test_dreams_are_what_gymnasiums_vector_of_single_dreams_is(trained_that_ends, mode):
    settings: dict[str, Any] = {"horizon": 4, "observation": "both", "denoise_steps": 1, "context_length": 2}
    theirs = SyncVectorEnv([lambda: DreamEnv(trained_that_ends, **settings)] * N, autoreset_mode=mode)
    ours = DreamVectorEnv(trained_that_ends, N, autoreset_mode=mode, **settings)
    assert_as_gymnasium(ours, theirs, mode, 20, exact=False)


@pytest.mark.parametrize("mode", MODES)
def test_a_dream_of_many_rows_is_one_network_call_per_step(mode, monkeypatch):
    envs = DreamVectorEnv(TRAINED, 4, horizon=2, denoise_steps=1, autoreset_mode=mode)
    envs.reset(seed=0)
    shapes, engine = [], shared_engine(TRAINED).engine
    imagine = engine.imagine

    def counted(memory: Any, actions: Any, *settings: Any) -> Any:
        shapes.append((memory.batch_size, len(actions)))
        return imagine(memory, actions, *settings)

    monkeypatch.setattr(engine, "imagine", counted)
    for step in range(6):
        _, _, terminated, truncated, _ = envs.step(np.zeros(4, np.int64))
        ended = terminated | truncated
        if mode == DISABLED and ended.any():
            envs.reset(options={"reset_mask": ended})
        if step == 0 and mode == NEXT_STEP:  # from here on rows do not end together
            envs.reset(options={"reset_mask": np.array([True, False, False, True])})
    assert shapes == [(4, 4)] * 6


def rows_of_lengths(*lengths: int) -> CountdownRows:
    rows = CountdownRows(len(lengths))
    rows.begin(np.ones(len(lengths), bool))
    rows.length = np.array(lengths)
    rows.calls.clear()
    return rows


def test_an_end_in_every_mode():
    """Row 0 ends at once, row 1 later."""
    actions = np.array([5, 6])
    for mode in MODES:
        rows = rows_of_lengths(1, 4)
        observation, reward, terminated, truncated, info = to_step_result(advance(rows, actions, mode))
        assert reward.tolist() == [6, 7] and terminated.tolist() == [True, False] and not truncated.any()
        assert rows.ended.tolist() == [mode != SAME_STEP, False]
        assert rows.calls == ["step", "begin [0]"] if mode == SAME_STEP else ["step"]
        assert observation[:, 1].tolist() == [0 if mode == SAME_STEP else 1, 1]
        assert info["_steps"].tolist() == [mode != SAME_STEP, True]
        assert ("final_obs" in info) == ("_length" in info) == (mode == SAME_STEP)
        if mode == SAME_STEP:
            assert info["final_obs"][0].tolist() == [1, 1] and info["final_obs"][1] is None
            assert info["_length"].tolist() == info["_final_obs"].tolist() == info["_final_info"].tolist()
            assert info["final_info"]["_steps"].tolist() == [True, False] and info["final_info"]["steps"][0] == 1
        if mode == NEXT_STEP:
            rows.calls.clear()
            observation, reward, terminated, truncated, info = to_step_result(advance(rows, actions, mode))
            assert rows.calls == ["step", "begin [0]"] and observation[:, 1].tolist() == [0, 2]
            assert reward.tolist() == [0, 8] and not (terminated | truncated | rows.ended).any()
            assert info["_length"].tolist() == [True, False] and info["_steps"].tolist() == [False, True]


def test_rows_that_were_restored_at_their_end_begin_anew_beside_others_that_end():
    rows = rows_of_lengths(2, 1, 4)
    rows.ended = np.array([True, False, False])
    transition = advance(rows, np.zeros(3), SAME_STEP)
    assert rows.calls == ["step", "begin [0]", "begin [1]"] and not rows.ended.any()
    assert transition.finished.tolist() == [False, True, False]
    assert transition.restarted.tolist() == [True, True, False]
    info = to_step_result(transition)[-1]
    assert info["_length"].tolist() == [True, True, False]
    assert info["length"][:2].tolist() == rows.length[:2].tolist(), "each row's own beginning"
    assert info["_final_info"].tolist() == [False, True, False]


def test_results_are_the_callers():
    """Writing to masks of a transition changes no rows."""
    for mode in MODES:
        rows = rows_of_lengths(4, 4)
        transition = advance(rows, np.zeros(2), mode)
        transition.finished[:] = True
        assert not rows.ended.any()


def test_steps_need_episodes():
    for mode in MODES:
        envs = CountdownVectorEnv(N, mode)
        with pytest.raises(ResetNeeded, match=r"rows \[0, 1, 2\] have not begun; call reset\(\)"):
            envs.step(np.zeros(N, int))
        envs.reset(options={"reset_mask": np.array([True, False, True])})
        with pytest.raises(ResetNeeded, match=r"rows \[1\] have not begun"):
            envs.step(np.zeros(N, int))
        envs.reset()
        envs.rows.ended = np.array([True, False, True])
        if mode == DISABLED:
            with pytest.raises(ResetNeeded, match=r"rows \[0, 2\] have ended; reset them with options\['reset_mask'\]"):
                envs.step(np.zeros(N, int))
        else:
            envs.step(np.zeros(N, int))
    rows = CountdownRows(1)
    for _ in range(2):
        with pytest.raises(ResetNeeded, match="ended or not begun; call reset"):
            check_ready_alone(rows)
        rows.begin(np.ones(1, bool))
        check_ready_alone(rows)
        rows.ended = np.ones(1, bool)


BAD: list[Callable[[], dict[str, Any]]] = [
    lambda: {"seed": [3, 4, -1]},  # those of the first rows are fine
    lambda: {"seed": [3, 4]},
    lambda: {"seed": 1.5},
    lambda: {"seed": 3, "options": {"reset_mask": np.zeros(N, bool)}},
    lambda: {"seed": 3, "options": {"reset_mask": [0, 1, 1]}},
]


@pytest.mark.parametrize("arguments", BAD)
def test_resets_that_do_not_fit_change_nothing(arguments):
    makes: list[Callable[[], Any]] = [
        lambda: CountdownVectorEnv(N, NEXT_STEP),
        lambda: MemoryMazeVectorEnv(N, 5, 16),
        lambda: DreamVectorEnv(TRAINED, N, denoise_steps=1),
    ]
    for make in makes:
        envs, twin = make(), make()
        for each in (envs, twin):
            each.reset(seed=0)
        with pytest.raises((ValueError, gym.error.Error)):
            envs.reset(**arguments())
        for _ in range(2):
            assert np.array_equal(envs.reset()[0], twin.reset()[0])


def test_infos_are_merged_row_by_row():
    def info(name: str, values: Any, *rows: int) -> dict[str, Any]:
        return {name: np.array(values), f"_{name}": np.isin(np.arange(N), rows)}

    merged = merge_info({**info("a", [1, 2, 3], 0, 1), **info("b", [[1, 2]] * N, 2)}, info("a", [7, 8, 9], 1))
    assert merged["a"].tolist() == [1, 8, 3] and merged["_a"].tolist() == [True, True, False]
    assert merged["b"].tolist() == [[1, 2]] * N and merged["_b"].tolist() == [False, False, True]
    merged = merge_info(info("b", [[1, 2]] * N, 0, 2), info("b", [[8, 9]] * N, 2))
    assert merged["b"].tolist() == [[1, 2], [1, 2], [8, 9]] and merged["_b"].tolist() == [True, False, True]
    single = row_info(merged, 2)
    assert single.keys() == {"b"} and single["b"].tolist() == [8, 9]
    assert type(row_info(info("a", [1, 2, 3], 0), 1)["a"]) is int
