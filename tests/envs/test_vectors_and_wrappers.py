"""Batched dreams equal single ones; the wrapper gives in a real env what the dream gives."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.make import make_image_env
from lssvwm_envs.sb3 import DreamVecEnv
from lssvwm_envs.wrappers import MemoryObservation, VectorMemoryObservation
from support.fp64 import ONCE_ROUNDED, fp64_models

ENV_ID = "MiniGrid-MemoryS7-v0"


@pytest.mark.parametrize("context_length", [1, 4])
@fp64_models()
def test_rows_dream_what_single_envs_dream(context_length):
    checkpoint = "minigrid-memory"
    settings = {"context_length": context_length, "horizon": 5, "denoise_steps": 2}
    batch = DreamVecEnv(checkpoint, num_envs=3, seed=10, **settings)
    singles = [DreamEnv(checkpoint, **settings) for _ in range(3)]
    frames = batch.reset()
    ends = [env.reset(seed=10 + i)[0] for i, env in enumerate(singles)]
    assert np.array_equal(frames, np.stack(ends))
    rng = np.random.default_rng(0)
    for _ in range(12):
        actions = rng.integers(0, 7, 3)
        frames, rewards, dones, infos = batch.step(actions)
        for i, env in enumerate(singles):
            frame, reward, terminated, truncated, _ = env.step(actions[i])
            assert dones[i] == (terminated or truncated)
            if dones[i]:
                last = infos[i]["terminal_observation"]
                assert infos[i]["TimeLimit.truncated"] == (truncated and not terminated)
                assert np.array_equal(last, frame)
                frame, _ = env.reset()
            assert np.array_equal(frames[i], frame)
            assert rewards[i] == pytest.approx(reward, abs=ONCE_ROUNDED)


@fp64_models()
def test_the_wrapper_reads_what_observe_reads(checkpoint):
    model = shared_engine(checkpoint).model
    env = MemoryObservation(make_image_env(ENV_ID), checkpoint, observation="both")
    observation, _ = env.reset(seed=5)
    frames, actions = [observation["image"]], [0]
    for action in (2, np.int64(1), np.array([2]), 0):  # environments take all of these for an action
        observation, *_ = env.step(action)
        frames.append(observation["image"])
        actions.append(int(np.asarray(action).item()))
    memory, _ = model.observe(
        model.initial_memory(1), torch.from_numpy(np.stack(frames))[None], torch.tensor(actions)[None]
    )
    np.testing.assert_allclose(memory.readout()[0].numpy(), observation["memory"], rtol=0, atol=ONCE_ROUNDED)
    assert env.observation_space.contains(observation)


def test_a_batch_of_dreams_refuses_what_it_cannot_do(checkpoint):
    batch = DreamVecEnv(checkpoint, num_envs=2)
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        batch.step(np.zeros(2, np.int64))
    batch.reset()
    with pytest.raises(gym.error.InvalidAction, match="99"):
        batch.step(np.array([0, 99]))
    with pytest.raises(gym.error.InvalidAction, match="is not in MultiDiscrete"):
        batch.step(np.zeros(3, np.int64))
    frames, *_ = batch.step(np.zeros(2, np.int64))
    assert frames.shape == (2, 56, 56, 3)


@fp64_models()
def test_vector_rows_forget_when_their_episode_ends(checkpoint):
    def make():
        return make_image_env(ENV_ID, max_steps=4)

    vector = VectorMemoryObservation(SyncVectorEnv([make, make]), checkpoint)
    single = MemoryObservation(make(), checkpoint)
    readout, _ = vector.reset(seed=[7, 8])
    alone, _ = single.reset(seed=7)
    done = False
    for action in (2, 0, 2, 1, 0, 2, 2, 0, 1, 2):
        readout, *_ = vector.step(np.array([action, 0]))
        if done:  # the vector env spends this step on the reset
            alone, _ = single.reset()
            done = False
        else:
            alone, _, terminated, truncated, _ = single.step(action)
            done = terminated or truncated
        np.testing.assert_allclose(readout[0], alone, rtol=0, atol=ONCE_ROUNDED)


def test_what_does_not_fit_is_said(checkpoint):
    with pytest.raises(ValueError, match="frames of shape"):
        MemoryObservation(make_image_env("MiniGrid-MemoryS7-v0", agent_view_size=5), checkpoint)
    with pytest.raises(ValueError, match="'image'"):
        MemoryObservation(make_image_env(ENV_ID), checkpoint, observation="image")
    with pytest.raises(ValueError, match="holds no image"):
        make_image_env("CartPole-v1")
    with pytest.raises(gym.error.Error):
        make_image_env("NoSuchEnv-v0")
