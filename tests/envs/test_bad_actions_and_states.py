"""Actions and states that do not fit: the right error with the value and the remedy in it, and nothing is changed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import InvalidAction, ResetNeeded
from safetensors.torch import save_file

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.state import DreamState
from lssvwm_envs.dream.vector import DreamVectorEnv
from support.bad_actions import BAD_ACTIONS
from support.playing import assert_goes_on_alike, in_the_middle
from support.small_checkpoints import save_checkpoint

FAST: dict[str, Any] = {"denoise_steps": 1}
ID = "lssvwm/Dream-v0"


@pytest.mark.parametrize("world", BAD_ACTIONS)
def test_actions_that_do_not_fit(worlds, world):
    for env, twin, actions in zip(
        in_the_middle(worlds[world]), in_the_middle(worlds[world]), BAD_ACTIONS[world], strict=True
    ):
        for action in actions:
            with pytest.raises(InvalidAction, match=r"(?s)^Action .* is not in .*; give one that is\.$") as said:
                env.step(action)
            assert repr(action) in str(said.value) and str(env.action_space) in str(said.value)
        assert_goes_on_alike(env, twin)


def test_actions_of_other_types_that_fit(worlds):
    for world, wanted, alike in (
        ("discrete", 1, [np.int8(1), np.array(1)]),
        ("multi_discrete", np.array([2, 1]), [[2, 1], (2, 1), np.array([2, 1], np.uint8)]),
        ("box", np.array([1, 0], np.float32), [np.array([1.0, 0.0]), [1.0, 0.0], [1, 0], np.array([1, 0], np.float16)]),
    ):
        env, envs = in_the_middle(worlds[world])
        for each, batch in ((env, lambda action: action), (envs, lambda action: [action, action])):
            rows = () if each is env else (0,)
            state = each.get_state(*rows)
            frames = []
            for action in (wanted, *alike):
                each.set_state(*rows, state)
                frame = each.step(batch(action))[0]
                frames.append(frame[0] if rows else frame)
            assert all(np.array_equal(frame, frames[0]) for frame in frames)


def test_steps_need_a_dream(worlds):
    settings = {"checkpoint": worlds["discrete"], "horizon": 2, **FAST}
    envs = gym.make_vec(ID, 2, autoreset_mode="Disabled", **settings)
    for env, action in ((DreamEnv(**settings), 0), (gym.make(ID, **settings), 0), (envs, [0, 0])):
        with pytest.raises(ResetNeeded, match=r"reset\(\)"):
            env.step(action)
        for _ in range(2):
            env.reset()
            env.step(action)
            env.step(action)
            with pytest.raises(ResetNeeded, match=r"ended or not begun; call reset\(\)|rows \[0, 1\] have ended;"):
                env.step(action)
    envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ResetNeeded, match=r"rows \[1\] have ended; reset them with options\['reset_mask'\]"):
        envs.step([0, 0])
    envs.reset(options={"reset_mask": np.array([False, True])})
    envs.step([0, 0])


def test_states_need_a_dream(worlds, tmp_path):
    env, envs = DreamEnv(worlds["discrete"]), DreamVectorEnv(worlds["discrete"], 2, **FAST)
    for attempt in (env.get_state, lambda: envs.get_state(1), lambda: env.save_state(tmp_path / "state")):
        with pytest.raises(ResetNeeded, match=r"no dream yet; call reset\(\) before get_state\(\)"):
            attempt()
    assert not list(tmp_path.iterdir())
    envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ResetNeeded, match=r"rows \[1\] have not begun; call reset\(\)"):
        envs.step([0, 0])
    envs.set_state(1, envs.get_state(0))
    envs.step([0, 0])


def test_states_that_do_not_fit(worlds, tmp_path):
    strangers: list[tuple[Any, str]] = [
        (None, "A NoneType is not a dream's state; give what get_state or DreamState.load returned"),
        ("state.safetensors", "A str is not a dream's state"),
    ]
    for checkpoint in (save_checkpoint(tmp_path / "other", "discrete", seed=1), worlds["box"]):
        other = DreamEnv(checkpoint, **FAST)
        other.reset(seed=0)
        strangers.append((other.get_state(), "of model .*; restore it in an env with the checkpoint it came from"))
    (env, envs), (twin, twins) = in_the_middle(worlds["discrete"]), in_the_middle(worlds["discrete"])
    own = env.get_state()
    strangers.append((replace(own, memory=own.memory.repeat(2)), "The state has 2 rows of memory"))
    for state, sentence in strangers:
        attempts = [partial(env.set_state, state), partial(envs.set_state, 1, state), partial(envs.fork, state, seed=3)]
        if state is not None:
            attempts += [partial(each.reset, seed=5, options={"state": state}) for each in (env, envs)]
        if isinstance(state, DreamState):
            state.save(tmp_path / "state")
            attempts.append(partial(env.load_state, tmp_path / "state"))
        for attempt in attempts:
            with pytest.raises(ValueError, match=sentence):
                attempt()
    context = np.zeros((1, 16, 16, 3), np.uint8), []
    for each in (env, envs):
        with pytest.raises(ValueError, match="state and a context; give one"):
            each.reset(seed=5, options={"state": env.get_state(), "context": context})
    assert_goes_on_alike(env, twin)
    assert_goes_on_alike(envs, twins)


def test_rows_that_are_not_there(worlds):
    (env, envs), (_, twins) = in_the_middle(worlds["discrete"]), in_the_middle(worlds["discrete"])
    state = env.get_state()
    for row in (-1, 2):
        for attempt in (partial(envs.set_state, row, state), partial(envs.get_state, row)):
            with pytest.raises(IndexError, match=f"no row {row}; this environment has 2"):
                attempt()
    for n in (0, -1, 3):
        with pytest.raises(ValueError, match=f"fork into {n} rows; this environment has 2"):
            envs.fork(state, n)
    with pytest.raises(gym.error.Error, match="-1"):
        envs.fork(state, seed=-1)
    assert_goes_on_alike(envs, twins)


def test_files_that_hold_no_state(worlds, tmp_path):
    env, twin = DreamEnv(worlds["discrete"], **FAST), DreamEnv(worlds["discrete"], **FAST)
    env.reset(seed=0)
    twin.reset(seed=0)
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").touch()
    save_file({"a": torch.zeros(3)}, tmp_path / "foreign")
    save_file({"a": torch.zeros(3)}, tmp_path / "foreign_metadata", {"format": "pt"})
    env.save_state(tmp_path / "whole")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:-9])
    for name in ("missing", "."):
        with pytest.raises(FileNotFoundError, match="no dream state .*; write one with save_state"):
            env.load_state(tmp_path / name)
    for name in ("text", "empty", "foreign", "foreign_metadata", "cut"):
        with pytest.raises(ValueError, match=rf"{name} is not a dream state \(.*; save it again"):
            env.load_state(tmp_path / name)
    with pytest.raises(ValueError, match="is not a dream state"):
        env.load_state(Path(worlds["discrete"]) / "model.safetensors")
    with pytest.raises(IsADirectoryError, match="is a folder; name a file, such as"):
        env.save_state(tmp_path)
    assert_goes_on_alike(env, twin)
    env.load_state(tmp_path / "whole")
    env.step(0)
