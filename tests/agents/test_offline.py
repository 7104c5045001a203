"""Policies learn from recorded steps what a solver finds, and the steps are those of the episodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy

from lssvwm_agents.imagination import DreamTrainConfig, train_in_dream
from lssvwm_agents.offline import OfflineConfig, RealSteps, learn_offline, real_steps
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter
from lssvwm_rl.model.checkpoints import load_contexts
from lssvwm_rl.model.engine import engine_of
from lssvwm_rl.model.world_model import WorldModel

GAMMA = 0.9
ROOMS = 6  # in a row: action 1 goes right, 0 left; the last one pays and ends it
QUICK = OfflineConfig(updates=600, batch_size=64, learning_rate=3e-3, expectile=0.9, target_rate=0.02)


def policy_for(size, actions):
    torch.manual_seed(0)
    box = spaces.Box(-1, 1, (size,), np.float32)
    return ActorCriticPolicy(box, actions, lambda _: 1e-3, net_arch=[32])


def random_walks(episodes=200, longest=20):
    """Steps of random actions in the row of rooms, some episodes cut short."""
    rng, at, done, paid, ended, acted = np.random.default_rng(0), [], [], [], [], []
    for _ in range(episodes):
        room = int(rng.integers(ROOMS - 1))
        for t in range(longest):
            action = int(rng.integers(2))
            at.append(room)
            room = min(max(room + 2 * action - 1, 0), ROOMS - 1)
            done.append(action), paid.append(float(room == ROOMS - 1)), ended.append(room == ROOMS - 1)
            acted.append(len(at) - 1)
            if ended[-1] or t == longest - 1:
                break
        at.append(room), done.append(0), paid.append(0.0), ended.append(False)
    read = torch.eye(ROOMS)[torch.tensor(at)]
    return RealSteps(read, torch.tensor(done), torch.tensor(paid), torch.tensor(ended), torch.tensor(acted))


def test_it_finds_the_best_actions_and_their_worth_in_random_walks():
    policy = policy_for(ROOMS, spaces.Discrete(2))
    learn_offline(policy, random_walks(), QUICK, GAMMA, seed=0)
    rooms = torch.eye(ROOMS)[: ROOMS - 1]
    chosen, _ = policy.predict(rooms.numpy(), deterministic=True)
    assert chosen.tolist() == [1] * (ROOMS - 1)
    # Value iteration: the n-th room from the end is worth GAMMA ** (n - 1).
    best = GAMMA ** np.arange(ROOMS - 2, -1, -1.0)
    found = policy.predict_values(rooms).squeeze(1).detach().numpy()
    np.testing.assert_allclose(found, best, atol=0.12)


def test_it_imitates_the_better_numbers_of_a_box():
    rng = np.random.default_rng(1)
    taken = torch.from_numpy(rng.uniform(-1, 1, (2000, 1)).astype(np.float32))
    read = torch.from_numpy(rng.choice([-0.5, 0.5], (2001, 1)).astype(np.float32))
    steps = RealSteps(
        readouts=read,
        actions=torch.cat([taken, torch.zeros(1, 1)]),
        rewards=torch.cat([-((taken - read[:-1]) ** 2).squeeze(1), torch.zeros(1)]),
        ended=torch.ones(2001, dtype=torch.bool),
        acted=torch.arange(2000),
    )
    policy = policy_for(1, spaces.Box(-1, 1, (1,), np.float32))
    learn_offline(policy, steps, QUICK, GAMMA, seed=0)
    chosen, _ = policy.predict(np.array([[-0.5], [0.5]], np.float32), deterministic=True)
    np.testing.assert_allclose(chosen, [[-0.5], [0.5]], atol=0.2)


def test_steps_are_those_of_the_episodes_whatever_their_lengths(checkpoint, tmp_path):
    engine, held_out = shared_engine(checkpoint).engine, load_contexts(checkpoint)
    episodes = [held_out[i] for i in range(4)]
    episodes[1] = episodes[1].cut(0, 3)
    header = held_out.header
    with EpisodeWriter(tmp_path / "some", header) as writer:
        for episode in episodes:
            writer.add(episode)
    steps = real_steps(engine, EpisodeStore(tmp_path / "some"))
    lengths = [len(episode) for episode in episodes]
    assert len(set(lengths)) > 1 and len(steps.readouts) == sum(lengths) + 4 and len(steps.acted) == sum(lengths)
    begin = 0
    for episode, n in zip(episodes, lengths, strict=True):
        here = slice(begin, begin + n)
        np.testing.assert_array_equal(steps.actions[here].numpy(), episode.actions)
        np.testing.assert_array_equal(steps.rewards[here].numpy(), episode.rewards)
        assert steps.ended[here].tolist() == [False] * (n - 1) + [episode.terminated]
        assert set(range(begin, begin + n)) <= set(steps.acted.tolist()) and begin + n not in steps.acted.tolist()
        memory = engine.model.initial_memory(1)
        for t in range(n + 1):
            led = torch.from_numpy(episode.actions[t - 1 : t] if t else np.zeros(1, episode.actions.dtype))
            memory, _ = engine.observe(memory, torch.from_numpy(episode.frames[None, t : t + 1]), led[:, None])
            np.testing.assert_allclose(steps.readouts[begin + t], memory.readout()[0], atol=1e-5)
        begin += n + 1


def test_a_policy_in_dreams_begins_with_what_real_episodes_taught(checkpoint, tmp_path):
    few = DreamTrainConfig(total_steps=1, num_envs=2, rollout_steps=4, batch_size=8, learning_rate=1e-12)
    plain = train_in_dream(checkpoint, few)
    taught = train_in_dream(checkpoint, replace(few, offline=OfflineConfig(updates=100)), tmp_path / "taught")
    engine, store = shared_engine(checkpoint).engine, load_contexts(checkpoint)
    steps = real_steps(engine, store)
    read, actions = steps.readouts[steps.acted], steps.actions[steps.acted]
    likely = [model.policy.evaluate_actions(read, actions)[1].mean().item() for model in (plain, taught)]
    assert likely[1] > likely[0] + 0.1, "recorded actions are not more likely than before"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"updates": -1}, "at least 0"), ({"batch_size": 1}, "at least 2 steps"), ({"expectile": 1.0}, "between 0 and 1")],
)
def test_bad_settings_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        OfflineConfig(**settings)


def test_actions_are_counted_from_zero(checkpoint, tmp_path):
    space = {"type": "Discrete", "n": 7, "start": 5}
    config, held_out = shared_engine(checkpoint).engine.model.config, load_contexts(checkpoint)
    one = held_out[0]
    with EpisodeWriter(tmp_path / "shifted", replace(held_out.header, action_space=space)) as writer:
        writer.add(replace(one, actions=one.actions + 5))
    model = WorldModel(replace(config, action_space=space)).eval()
    steps = real_steps(engine_of(model), EpisodeStore(tmp_path / "shifted"))
    np.testing.assert_array_equal(steps.actions[: len(one)].numpy(), one.actions)
