"""Actions of every kind through data, training, dreams, planners and PPO: environments get those of their own space."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO

from lssvwm_agents.evaluate import evaluate_policy
from lssvwm_agents.planning import CEMConfig, ICEMConfig, MPPIConfig, ShootingConfig, planner_policy
from lssvwm_agents.planning.distributions import Categorical
from lssvwm_agents.policies import load_policy, save_policy
from lssvwm_agents.remembering import RememberingPolicy
from lssvwm_bench.contenders import _saved
from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.explorers import explorer_named
from lssvwm_envs.sb3 import DreamVecEnv, GymVecEnv
from lssvwm_envs.wrappers import VectorMemoryObservation
from lssvwm_rl.data.collect import collect
from lssvwm_rl.model.checkpoints import load_world_model
from lssvwm_rl.spaces import counted_from, first_action, sb3_space
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.trainer import train
from support.peculiar import Peculiar, peculiar, peculiar_checkpoint

SPACES = {
    "from 5": spaces.Discrete(3, start=5),
    "from -1": spaces.Discrete(3, start=-1),
    "several": spaces.MultiDiscrete([3, 2], start=[4, -2]),
    "binary": spaces.MultiBinary(3),
    "many": spaces.Discrete(60),
    "half bounded": spaces.Box(0, np.inf, (2,), np.float32),
    "unbounded": spaces.Box(-np.inf, np.inf, (2,), np.float64),
}
FEW = {CEMConfig: {"elites": 2}, ICEMConfig: {"elites": 2}}
FAST = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "device": "cpu", "seed": 0}


@pytest.fixture(scope="module", params=SPACES)
def world(request, tmp_path_factory):
    """An action space, and an untrained checkpoint of an environment with it, which its contexts come from."""
    space = SPACES[request.param]
    return space, peculiar_checkpoint(tmp_path_factory.mktemp("world"), actions=space)


def searched(config):
    return config(horizon=2, samples=8, **FEW.get(config, {}))


def test_spaces():
    for name in ("from 5", "from -1", "several"):
        space = SPACES[name]
        zero = sb3_space(space)
        assert np.all(np.asarray(first_action(zero)) == 0) and sb3_space(zero) == zero
        for _ in range(20):
            assert space.contains(zero.sample() + first_action(space))
    for space in (spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.Box(-1, 1, (2,))):
        assert sb3_space(space) is space
    assert sb3_space(SPACES["binary"]) == spaces.MultiDiscrete([2, 2, 2])
    for name, low in (("half bounded", 0), ("unbounded", -np.finfo(np.float32).max)):
        shown = sb3_space(SPACES[name])
        assert shown.is_bounded() and shown.dtype == SPACES[name].dtype and (shown.low == low).all()


def test_only_policies_that_count_from_zero_are_shifted():
    class Says:
        def __init__(self, action_space):
            self.action_space = action_space

    actions, space = np.array([0, 2]), spaces.Discrete(3, start=5)
    assert counted_from(actions, Says(spaces.Discrete(3)), space).tolist() == [5, 7]
    for policy in (Says(space), Says(spaces.Discrete(4)), object()):
        assert counted_from(actions, policy, space) is actions
    assert counted_from(actions, Says(spaces.Discrete(3)), spaces.Discrete(3)) is actions


@pytest.mark.parametrize("beside", [False, True])
def test_ppo_in_the_real_environment(world, beside, tmp_path):
    """Environments assert that actions are theirs; on images, and on a memory."""
    space, checkpoint = world
    real = peculiar(2, AutoresetMode.SAME_STEP, actions=space)
    envs = VectorMemoryObservation(real, checkpoint) if beside else real
    shown = GymVecEnv(envs, seed=0)
    assert shown.action_space == sb3_space(space)
    model = PPO("MlpPolicy", shown, **FAST).learn(16)
    shown.step(np.zeros((2, *(space.shape or ())), shown.action_space.dtype))
    assert np.all(real.envs[1].taken[-1] == first_action(space))
    saved = load_policy(save_policy(model, tmp_path / "p", checkpoint=checkpoint if beside else None))
    wrap = partial(VectorMemoryObservation, checkpoint=checkpoint) if beside else None
    for policy in (model, saved):
        result = evaluate_policy(policy, lambda: Peculiar(space), 3, 2, wrap_vector=wrap)
        assert all(space.contains(action) for action in result.first_actions)
    assert _saved(saved, tmp_path / "p", None, Peculiar(space), "cpu").source
    with pytest.raises(ValueError, match="acts in"):
        _saved(saved, tmp_path / "p", None, Peculiar(spaces.Discrete(7)), "cpu")


def test_ppo_in_the_dream_and_what_it_does_in_reality(world, tmp_path):
    space, checkpoint = world
    dreams = DreamVecEnv(checkpoint, 2, seed=0, observation="memory", denoise_steps=1)
    assert dreams.action_space == sb3_space(space)
    model = PPO("MlpPolicy", dreams, **FAST).learn(16)
    saved = load_policy(save_policy(model, tmp_path / "p", checkpoint=checkpoint))
    store = collect(
        partial(peculiar, actions=space),
        lambda envs, seed: RememberingPolicy(saved, load_world_model(checkpoint)),
        tmp_path / "s", 4, 2,
    )  # fmt: skip
    assert all(space.contains(action) for episode in store for action in episode.actions)
    assert len({action.tobytes() for episode in store for action in episode.actions}) > 1


def test_training_and_dreams(world, tmp_path):
    """A model of such actions learns from a store of them, and its dreams take what the environment takes."""
    space, checkpoint = world
    store = collect(partial(peculiar, actions=space), explorer_named("random"), tmp_path / "s", 4, 2)
    model = load_world_model(checkpoint).config
    run = train(store, tmp_path / "run", model, config=TrainConfig(batch_size=2, span=4, steps=1, preview_every=0))
    dream = DreamEnv(str(run), denoise_steps=1)
    dream.reset(seed=0)
    space.seed(0)
    for _ in range(3):
        action = space.sample()
        assert dream.action_space.contains(np.asarray(action, dream.action_space.dtype)[()])
        *_, terminated, truncated, _ = dream.step(action)
        if terminated or truncated:
            dream.reset()


@pytest.mark.parametrize("config", [CEMConfig, ICEMConfig, MPPIConfig, ShootingConfig])
def test_planners_and_explorers(world, config, tmp_path):
    space, checkpoint = world
    planner = planner_policy(load_world_model(checkpoint), searched(config))
    for policy in (lambda envs, seed: planner, explorer_named("lasting"), explorer_named("random")):
        store = collect(partial(peculiar, actions=space), policy, tmp_path / str(id(policy)), 2, 2)
        assert all(space.contains(action) for episode in store for action in episode.actions)


@pytest.mark.parametrize("config", [CEMConfig, ICEMConfig, MPPIConfig])
def test_planners_of_many_actions(tmp_path, config):
    space = spaces.Discrete(60)
    planner = planner_policy(load_world_model(peculiar_checkpoint(tmp_path, actions=space)), searched(config))
    actions, _ = planner.predict(np.zeros((2, *planner.model.config.frame_shape), np.uint8))
    assert all(space.contains(action) for action in actions)


def test_least_probabilities_leave_half_to_a_fit():
    family = Categorical(np.array([60, 3]), np.zeros(2, int), 0.02)
    elites = torch.zeros(1, 1, 1, 2, dtype=torch.int64)
    fitted = family.fit(family.prior().expand(1, 1, -1, -1), elites, torch.ones(1, 1))[0, 0]
    assert fitted.sum(1).tolist() == pytest.approx([1, 1])
    assert fitted[0, 0].item() == pytest.approx(0.5 + 0.5 / 60) and fitted[0, 1].item() == pytest.approx(0.5 / 60)
    assert fitted[1, :3].tolist() == pytest.approx([0.96, 0.02, 0.02]), "few actions have what was asked for"
    assert fitted[1, 3:].sum() == 0
