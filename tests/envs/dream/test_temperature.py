"""The temperature of dreams: times the noise, and nothing else."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.dream.state import DreamState
from lssvwm_envs.dream.vector import DreamVectorEnv
from lssvwm_envs.sb3 import DreamVecEnv
from support.playing import assert_same, play

ID, ACTIONS = "lssvwm/Dream-v0", [1, 2, 0, 3]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def noise_of(state: DreamState) -> torch.Generator:
    generator = torch.Generator()
    generator.set_state(torch.from_numpy(state.noise.copy()))
    return generator


@pytest.mark.parametrize("temperature", [1.0, 0.25, 0.0, 2])
@pytest.mark.parametrize("kind", ["block_ssm", "causal"])
def test_a_frame_is_that_of_the_noise_times_the_temperature(untrained, kind, temperature):
    """With 1, of generators as they are given; whatever it is, these have drawn as many numbers afterwards."""
    checkpoint = untrained(kind, ends=0.0)
    engine, env = shared_engine(checkpoint, "cpu", "auto").engine, DreamEnv(checkpoint, temperature=temperature)
    env.reset(seed=4)
    for action in ACTIONS:
        state = env.get_state()
        generator = noise_of(state)
        noise = [generator] if temperature == 1 else temperature * engine.draw([generator])
        expected = engine.imagine(state.memory, torch.tensor([action]), noise)
        frame, reward, *_ = env.step(action)
        after = env.get_state()
        assert np.array_equal(frame, expected.frame[0].numpy()) and reward == float(expected.reward)
        assert torch.equal(after.memory.features, expected.memory.features)
        assert after.noise.tolist() == generator.get_state().tolist() != state.noise.tolist()


def test_dreams_do_not_depend_on_whether_it_is_one_or_not_given(untrained):
    checkpoint = untrained()
    assert_same(play(DreamEnv(checkpoint, temperature=1), 8), play(DreamEnv(checkpoint), 8))
    assert_same(play(DreamVectorEnv(checkpoint, 3, temperature=1.0), 8), play(DreamVectorEnv(checkpoint, 3), 8))


MAKERS: dict[str, Any] = {
    "make_vec": lambda checkpoint, **options: gym.make_vec(ID, 4, checkpoint=checkpoint, **options),
    "sb3": lambda checkpoint, **options: DreamVecEnv(checkpoint, 4, **options).envs,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_seeds_dream_the_same_with_none(untrained, make):
    """Futures of one state and equal actions, though every row has a seed of its own."""
    checkpoint = untrained(ends=0.0)
    single = gym.make(ID, checkpoint=checkpoint, temperature=0).unwrapped
    single.reset(seed=2)
    state = single.get_state()
    different = {}
    for temperature in (0.0, 1.0):
        envs = make(checkpoint, temperature=temperature).unwrapped
        envs.reset(seed=0)
        envs.fork(state, seed=1)
        frames = np.stack([envs.step(np.full(4, action))[0] for action in ACTIONS], axis=1)
        different[temperature] = len(np.unique(frames.reshape(4, -1), axis=0))
    assert different == {0.0: 1, 1.0: 4}
    ours = [single.step(action)[0] for action in ACTIONS]
    other = gym.make(ID, checkpoint=checkpoint, temperature=0).unwrapped
    other.reset(seed=9, options={"state": state})
    other._dreams.reseed(np.ones(1, bool), 5)
    assert_same(ours, [other.step(action)[0] for action in ACTIONS])


def test_states_restore_at_the_same_and_at_another_temperature(untrained, tmp_path):
    checkpoint = untrained(ends=0.0)
    mild, cold = (DreamEnv(checkpoint, temperature=temperature) for temperature in (0.5, 0.0))
    mild.reset(seed=1)
    mild.step(1)
    mild.save_state(tmp_path / "state.safetensors")
    first = [mild.step(action) for action in ACTIONS]
    mild.load_state(tmp_path / "state.safetensors")
    assert_same([mild.step(action) for action in ACTIONS], first)
    cold.load_state(tmp_path / "state.safetensors")
    frames = [cold.step(action)[0] for action in ACTIONS]
    assert not np.array_equal(frames[0], first[0][0])
    assert cold.get_state().noise.tolist() == mild.get_state().noise.tolist()
