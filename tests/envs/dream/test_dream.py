"""The learned env: Gymnasium's contract, states as values, loud errors."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import lssvwm_rl
from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.state import DreamState
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.world_model import WorldModel
from support.programs import bits

ACTIONS = [2, 0, 2, 1, 2, 2, 0]


def play(env, actions):
    """Frames, rewards and ends of a row of steps, going on after an end."""
    seen = []
    for action in actions:
        frame, reward, terminated, truncated, _ = env.step(action)
        seen.append((frame, reward, terminated, truncated))
        if terminated or truncated:
            break
    return seen


def assert_same(a, b):
    assert len(a) == len(b)
    for (frame, *rest), (other, *others) in zip(a, b, strict=True):
        assert np.array_equal(frame, other) and rest == others


@pytest.mark.parametrize("observation", ["image", "memory", "both"])
def test_check_env_is_clean(checkpoint, observation):
    env = gym.make("lssvwm/Dream-v0", checkpoint=checkpoint, observation=observation, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    assert lssvwm_rl.__version__


def test_an_id_with_its_module_registers_itself(checkpoint):
    """In a fresh process: this one has imported everything."""
    code = (
        "import sys, gymnasium as gym;"
        "env = gym.make('lssvwm_envs:lssvwm/Dream-v0', checkpoint=sys.argv[1]);"
        "assert env.reset(seed=0)[0].shape == (56, 56, 3)"
    )
    subprocess.run([sys.executable, "-c", code, checkpoint], check=True)


def test_a_restored_state_goes_on_bit_for_bit(checkpoint, tmp_path):
    env = DreamEnv(checkpoint, context_length=3)
    env.reset(seed=1)
    env.step(2)
    state = env.get_state()
    first = play(env, ACTIONS)
    size = state.memory.nbytes
    assert env.get_state().memory.nbytes == size, "the memory does not grow"
    env.set_state(state)
    assert_same(play(env, ACTIONS), first)
    state.save(tmp_path / "state.safetensors")
    other = DreamEnv(checkpoint)
    other.reset(options={"state": DreamState.load(tmp_path / "state.safetensors")})
    assert_same(play(other, ACTIONS), first)


def test_states_share_the_memory_and_nothing_writes_into_it(checkpoint):
    env = DreamEnv(checkpoint)
    env.reset(seed=1)
    env.step(2)
    given, later = env.get_state(), env.get_state()
    assert given.memory is later.memory, "no copy"
    before = bits([given.memory.tensors(), given.frame, given.noise])
    play(env, ACTIONS)
    other = env.get_state()
    env.reset(seed=2)
    env.set_state(given)
    play(env, ACTIONS[1:])
    env.set_state(other)
    env.reset(seed=3)
    assert bits([given.memory.tensors(), given.frame, given.noise]) == before


def test_the_horizon_survives_a_restore(checkpoint):
    env = DreamEnv(checkpoint, horizon=5)
    env.reset(seed=0)
    start = env.get_state()
    lengths = []
    for _ in range(2):
        env.set_state(start)
        lengths.append(len(play(env, [0] * 20)))
    assert lengths[0] == lengths[1] <= 5


def test_seeds_decide_everything(checkpoint):
    episodes = []
    for seed in (3, 3, 4):
        env = DreamEnv(checkpoint)
        frame, _ = env.reset(seed=seed)
        episodes.append([(frame, 0.0, False, False), *play(env, ACTIONS)])
    assert_same(episodes[0], episodes[1])
    assert any(not np.array_equal(a[0], b[0]) for a, b in zip(episodes[0], episodes[2], strict=False))


def test_a_given_context_is_observed(checkpoint):
    episode = EpisodeStore(checkpoint + "/contexts")[0]
    env = DreamEnv(checkpoint)
    frame, _ = env.reset(seed=0, options={"context": (episode.frames[:4], episode.actions[:3])})
    assert np.array_equal(frame, episode.frames[3])
    assert env.get_state().memory.frames.tolist() == [4]


def test_a_state_of_another_checkpoint_is_refused(checkpoint, tmp_path):
    """Same shapes, other weights: nothing but the fingerprint tells them apart."""
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    model = WorldModel.from_pretrained(checkpoint)
    torch.nn.init.zeros_(model.position)
    model.save_pretrained(other)
    mine, theirs = DreamEnv(checkpoint), DreamEnv(str(other))
    mine.reset(seed=0)
    theirs.reset(seed=0)
    with pytest.raises(ValueError, match="the checkpoint it came from"):
        mine.set_state(theirs.get_state())
    mine.step(0)


def test_what_goes_wrong_is_said(checkpoint, tmp_path):
    env = DreamEnv(checkpoint, horizon=1)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(gym.error.InvalidAction, match="99"):
        env.step(99)
    env.step(0)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    with pytest.raises(ValueError, match="'contxt'"):
        env.reset(options={"contxt": None})
    with pytest.raises(ValueError, match="context frames need"):
        env.reset(options={"context": (np.zeros((3, 56, 56, 3), np.uint8), np.zeros(3, np.int64))})
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        DreamEnv(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="'pixels'"):
        DreamEnv(checkpoint, observation="pixels")
    with pytest.raises(FileNotFoundError, match="no dream state"):
        DreamState.load(tmp_path)
