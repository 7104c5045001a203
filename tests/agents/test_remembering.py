"""A policy with its memory acts on frames as it does behind `VectorMemoryObservation`, and rare actions get taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from lssvwm_agents.loop.rare import RareActions, visits_for
from lssvwm_agents.remembering import RememberingPolicy
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.make import image_envs, make_image_env
from lssvwm_envs.wrappers import VectorMemoryObservation
from lssvwm_rl.data.collect import recorded
from lssvwm_rl.data.play import Start, play
from support.playing import ByMemory

ENV_ID = "MiniGrid-MemoryS7-v0"


def envs(wrap=None):
    made = SyncVectorEnv([lambda: make_image_env(ENV_ID, max_steps=9)] * 3, autoreset_mode=AutoresetMode.DISABLED)
    return made if wrap is None else wrap(made)


def test_memory_is_read_as_beside_the_environment(checkpoint):
    engine = shared_engine(checkpoint).engine
    inside, beside = (ByMemory(engine.model.readout_size, 7) for _ in range(2))
    seeds = [[3, 4], [5], [6, 7, 8]]
    for playing, policy in (
        (envs(), RememberingPolicy(inside, engine)),
        (envs(lambda made: VectorMemoryObservation(made, checkpoint)), beside),
    ):
        for _ in play(playing, policy, [iter(queue) for queue in seeds]):
            pass
    assert len(inside.read) == len(beside.read) > 9
    for ours, theirs in zip(inside.read, beside.read, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


class Still:
    """Always the last action."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.full(len(observation), 6), state


def test_rare_actions_are_taken_until_they_are_not_rare():
    made = image_envs(ENV_ID)(1)
    visits = visits_for(made.single_action_space)
    policy = RareActions(Still(), visits, made, seed=0, rate=1.0, enough=2)
    episodes = list(recorded(made, play(made, policy, [iter([1, 2, 3])]), ()))
    # In a view in which it was often enough, each action was taken twice before the policy went on.
    actions = np.concatenate([episode.actions for episode in episodes])
    frames = np.concatenate([episode.frames[:-1] for episode in episodes])
    views = visits.views(frames)
    often = [view for view in set(views.tolist()) if (views == view).sum() > 2 * 7]
    assert often
    for view in often:
        assert np.bincount(actions[views == view], minlength=7)[:6].tolist() == [2] * 6
    rest = RareActions(Still(), visits, made, seed=0, rate=0.0)
    for event in play(made, rest, [iter([1])]):
        assert isinstance(event, Start) or (event.actions == 6).all()


def test_a_remembering_policy_is_told_what_was_really_done(checkpoint):
    engine = shared_engine(checkpoint).engine
    made = envs()
    policy = RareActions(RememberingPolicy(ByMemory(engine.model.readout_size, 7), engine), visits_for(
        made.single_action_space), made, seed=0, rate=1.0)  # fmt: skip
    frames = np.stack([make_image_env(ENV_ID).reset(seed=i)[0] for i in range(3)])
    actions, state = policy.predict(frames)
    assert np.array_equal(state.actions, actions)
    memory, _ = engine.observe(
        engine.model.initial_memory(3), torch.from_numpy(frames)[:, None], torch.zeros(3, 1, dtype=torch.int64)
    )
    memory, _ = engine.observe(memory, torch.from_numpy(frames)[:, None], torch.from_numpy(actions)[:, None])
    _, state = policy.predict(frames, state, np.zeros(3, bool))
    torch.testing.assert_close(state.memory.readout(), memory.readout())


def test_frames_of_another_size_are_refused(checkpoint):
    with pytest.raises(ValueError, match="do not fit the world model"):
        RememberingPolicy(Still(), shared_engine(checkpoint).engine).predict(np.zeros((1, 8, 8, 3), np.uint8))
