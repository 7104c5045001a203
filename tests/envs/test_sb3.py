"""Stable-Baselines3 takes the dream, and any Gymnasium vector environment, for one of its own."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecNormalize

from lssvwm_envs.dream.vector import DreamVectorEnv
from lssvwm_envs.make import make_image_env
from lssvwm_envs.sb3 import DreamVecEnv, GymVecEnv, JoinedVecEnv
from lssvwm_envs.wrappers import MemoryObservation, VectorMemoryObservation
from support.fp64 import ONCE_ROUNDED, fp64_models

SMALL = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "seed": 0, "device": "cpu"}


def cart_pole(limit=12):
    return gym.make("CartPole-v1", max_episode_steps=limit)


def maze():
    return gym.make("lssvwm/MemoryMaze-5x5-v0", image_size=16, max_steps=7)


def same(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys(), (a.keys(), b.keys())
        for key in a:
            same(a[key], b[key])
    else:
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", [cart_pole, maze])
def test_any_vector_environment_is_what_sb3_makes_of_single_ones(make):
    """Against DummyVecEnv: observations, rewards, ends, and what is told of them."""
    if make is maze:
        vector = gym.make_vec(
            "lssvwm/MemoryMaze-5x5-v0", 3, image_size=16, max_steps=7, autoreset_mode=AutoresetMode.SAME_STEP
        )
    else:
        vector = SyncVectorEnv([make] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    ours, theirs = GymVecEnv(vector, seed=5), DummyVecEnv([make] * 3)
    theirs.seed(5)
    same(ours.reset(), theirs.reset())
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    rng, ends = np.random.default_rng(0), 0
    for _ in range(40):
        actions = rng.integers(0, ours.action_space.n, 3)
        (observation, rewards, dones, infos), others = ours.step(actions), theirs.step(actions)
        same(observation, others[0])
        same(rewards, others[1])
        same(dones, others[2])
        for info, other in zip(infos, others[3], strict=True):
            same(info, other)
        ends += int(dones.sum())
    assert ends > 6
    same(ours.reset(), theirs.reset())  # goes on with the generators as they are
    with pytest.raises(ValueError, match="same-step autoreset, not"):
        GymVecEnv(SyncVectorEnv([cart_pole]))


def test_ends_of_dreams_are_told_as_sb3_wants_them(checkpoint):
    envs = DreamVecEnv(checkpoint, num_envs=3, seed=0, horizon=4, observation="both", denoise_steps=1)
    single = DreamVecEnv(checkpoint, num_envs=3, seed=0, horizon=100, observation="both", denoise_steps=1)
    envs.reset()
    single.reset()
    cut = 0
    for _ in range(4):
        observation, _, dones, infos = envs.step(np.array([2, 0, 1]))
        unbroken, _, others, _ = single.step(np.array([2, 0, 1]))
        for i, info in enumerate(infos):
            assert ("terminal_observation" in info) == dones[i]
            assert info["TimeLimit.truncated"] == (dones[i] and not others[i])
            if info["TimeLimit.truncated"]:
                cut += 1
                last = {key: part[i] for key, part in unbroken.items()}
                same(info["terminal_observation"], last)
                assert envs.observation_space.contains(info["terminal_observation"])
                assert not np.array_equal(observation["image"][i], last["image"])
                assert envs.reset_infos[i].keys() == {"context_episode", "context_frames"}
    assert cut > 0


def test_seeds_options_attributes_and_pictures(checkpoint):
    envs = DreamVecEnv(checkpoint, num_envs=2, seed=3, render_mode="rgb_array")
    assert isinstance(envs.envs, DreamVectorEnv)
    first = envs.reset()
    assert [info["context_episode"] for info in envs.reset_infos] == [
        gym.make("lssvwm/Dream-v0", checkpoint=checkpoint).reset(seed=3 + i)[1]["context_episode"] for i in range(2)
    ]
    state = envs.envs.get_state(0)
    envs.step(np.zeros(2, np.int64))
    envs.seed(3)
    same(envs.reset(), first)
    envs.set_options({"state": state})
    restored = envs.reset()
    same(restored[1], first[0])
    envs.reset()  # options are of one reset
    assert envs.envs.get_state(1).noise.tolist() != state.noise.tolist()
    assert envs.get_attr("render_mode") == ["rgb_array"] * 2 and envs.has_attr("horizon") is False
    assert envs.render().shape == (112, 56, 3) and len(envs.get_images()) == 2
    with pytest.raises(ValueError, match="one dict"):
        envs.set_options([{}, {}])
    for call in (lambda: envs.env_method("get_state"), lambda: envs.set_attr("horizon", 3)):
        with pytest.raises(AttributeError, match="`.envs`"):
            call()
    envs.close()
    envs.close()


def test_wrappers_and_evaluation_of_sb3(checkpoint):
    envs = VecMonitor(DreamVecEnv(checkpoint, num_envs=2, seed=0, horizon=5, observation="memory", denoise_steps=1))
    model = PPO("MlpPolicy", envs, **SMALL)
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(64)
    assert any((p != q).any() for p, q in zip(model.policy.parameters(), before, strict=True))
    assert model.ep_info_buffer and all(1 <= episode["l"] <= 5 for episode in model.ep_info_buffer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        returns, lengths = evaluate_policy(model, envs, n_eval_episodes=5, return_episode_rewards=True)
    assert len(returns) == 5 and all(1 <= length <= 5 for length in lengths)
    for wrapper in (VecFrameStack, VecNormalize):
        wrapped = wrapper(
            DreamVecEnv(checkpoint, 2, observation="memory", horizon=3), *([4] * (wrapper is VecFrameStack))
        )
        wrapped.reset()
        assert wrapped.step(np.zeros(2, np.int64))[0].shape == (2, *wrapped.observation_space.shape)


@pytest.mark.parametrize("observation, policy", [("image", "CnnPolicy"), ("both", "MultiInputPolicy")])
def test_ppo_trains_on_every_observation(checkpoint, observation, policy):
    envs = DreamVecEnv(checkpoint, num_envs=2, seed=0, horizon=5, observation=observation, denoise_steps=1)
    model = PPO(policy, VecMonitor(envs), **SMALL).learn(16)
    assert model.num_timesteps == 16


def test_recurrent_ppo_trains_in_the_dream(checkpoint):
    envs = VecMonitor(DreamVecEnv(checkpoint, num_envs=2, seed=0, horizon=5, observation="memory", denoise_steps=1))
    model = RecurrentPPO("MlpLstmPolicy", envs, policy_kwargs={"lstm_hidden_size": 16}, **SMALL).learn(32)
    observation = envs.reset()
    actions, state = model.predict(observation, episode_start=np.ones(2, bool))
    assert actions.shape == (2,) and len(state) == 2 and model.num_timesteps == 32


@fp64_models()
def test_the_memory_beside_real_environments_is_a_vec_env_as_well(checkpoint):
    """Against SB3's own vectorisation of single wrappers."""

    def make():
        return MemoryObservation(make_image_env("MiniGrid-MemoryS7-v0", max_steps=6), checkpoint)

    def image():
        return make_image_env("MiniGrid-MemoryS7-v0", max_steps=6)

    vector = VectorMemoryObservation(SyncVectorEnv([image] * 2, autoreset_mode=AutoresetMode.SAME_STEP), checkpoint)
    ours, theirs = GymVecEnv(vector, seed=1), DummyVecEnv([make] * 2)
    theirs.seed(1)
    np.testing.assert_allclose(ours.reset(), theirs.reset(), rtol=0, atol=ONCE_ROUNDED)
    rng, ends = np.random.default_rng(0), 0
    for _ in range(20):
        actions = rng.integers(0, 3, 2)
        (readout, rewards, dones, infos), others = ours.step(actions), theirs.step(actions)
        np.testing.assert_allclose(readout, others[0], rtol=0, atol=ONCE_ROUNDED)
        same((rewards, dones), others[1:3])
        for i in np.flatnonzero(dones):
            last = infos[i]["terminal_observation"]
            np.testing.assert_allclose(last, others[3][i]["terminal_observation"], rtol=0, atol=ONCE_ROUNDED)
        ends += int(dones.sum())
    assert ends >= 6


def test_joined_rows_are_those_of_their_parts():
    """Against one environment of all rows: what is seen, earned, told and asked."""

    def rows(n, seed=None):
        return GymVecEnv(SyncVectorEnv([cart_pole] * n, autoreset_mode=AutoresetMode.SAME_STEP), seed)

    joined, whole = JoinedVecEnv([rows(2), rows(1), rows(2)]), rows(5, 3)
    joined.seed(3)
    same(joined.reset(), whole.reset())
    rng = np.random.default_rng(0)
    for _ in range(40):
        actions = rng.integers(0, 2, 5)
        ours, theirs = joined.step(actions), whole.step(actions)
        for one, other in zip(ours[:3], theirs[:3], strict=True):
            same(one, other)
        assert [sorted(info) for info in ours[3]] == [sorted(info) for info in theirs[3]]
    assert joined.get_attr("num_envs", [4, 0, 2]) == [2, 2, 1] and joined.env_is_wrapped(VecMonitor) == [False] * 5
    joined.close()
    with pytest.raises(ValueError, match="cannot be joined"):
        JoinedVecEnv([rows(1), GymVecEnv(SyncVectorEnv([maze], autoreset_mode=AutoresetMode.SAME_STEP))])
    with pytest.raises(ValueError, match="at least one"):
        JoinedVecEnv([])
