"""CEM on problems whose optimum is known; the planner over a real world model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy

from lssvwm_agents.evaluate import evaluate_policy
from lssvwm_agents.planning import CEM, CEMConfig, PlannerPolicy, WorldModelDynamics, planner_policy
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.make import make_image_env
from lssvwm_rl.data.store import EpisodeStore
from support.fp64 import ONCE_ROUNDED, fp64_models

CONFIG = CEMConfig(horizon=5, samples=256, elites=32, iterations=8)


class Target:
    """Return is minus the distance of the actions to a known sequence, another one for every row."""

    def __init__(self, action_space, targets):
        self.action_space, self.targets = action_space, targets

    def evaluate(self, memory, actions):
        wrong = (actions.float() - self.targets[:, None].float()).abs()
        return -wrong.flatten(2).sum(-1)


def generators(n):
    return [torch.Generator().manual_seed(i) for i in range(n)]


@pytest.mark.parametrize(
    ("space", "targets", "tolerance"),
    [
        (spaces.Discrete(4, start=2), torch.tensor([[2, 5, 3, 4, 2], [5, 5, 2, 2, 3]]), 0),
        (spaces.MultiDiscrete([2, 3]), torch.tensor([[[0, 2], [1, 1], [0, 0], [1, 2], [0, 1]]] * 2), 0),
        (spaces.Box(-1, 1, (2,)), torch.tensor([[[0.5, -0.5]] * 5, [[-0.2, 0.9]] * 5]), 0.04),
    ],
)
def test_cem_finds_the_known_sequence(space, targets, tolerance):
    cem = CEM(CONFIG, space)
    action, plan, info = cem.plan(Target(space, targets), None, cem.prior(2), generators(2))
    assert (plan.best.view(targets.shape) - targets).abs().max() <= tolerance
    assert (action - targets[:, 0]).abs().max() <= tolerance
    again, _, _ = cem.plan(Target(space, targets), None, cem.prior(2), generators(2))
    assert torch.equal(action, again)
    assert (info["best_return"] >= info["mean_return"]).all()


def test_returns_that_are_not_numbers_are_refused():
    space = spaces.Discrete(2)
    cem, nowhere = CEM(CONFIG, space), Target(space, torch.full((1, 5), float("nan")))
    with pytest.raises(ValueError, match="NaN"):
        cem.plan(nowhere, None, cem.prior(1), generators(1))


@fp64_models()
def test_returns_are_those_of_unrolling_by_hand(checkpoint):
    model = shared_engine(checkpoint).model
    episode = EpisodeStore(checkpoint + "/contexts")[0]
    frames, moves = torch.from_numpy(episode.frames[None, :3]), torch.zeros(1, 3, dtype=torch.int64)
    memory, _ = model.observe(model.initial_memory(1), frames, moves)
    actions = torch.tensor([[[0, 2, 1], [2, 2, 2]]])
    dynamics = WorldModelDynamics(model, discount=0.9, seed=3)
    returns = dynamics.evaluate(memory, actions)
    assert torch.equal(returns, dynamics.evaluate(memory, actions))
    for s in range(2):
        alone = dynamics.evaluate(memory, actions[:, s : s + 1])
        assert alone.item() == pytest.approx(returns[0, s].item(), abs=ONCE_ROUNDED)
    state = np.random.SeedSequence([3, 3]).generate_state(1, np.uint32)[0]
    generator, value, weight, at = [torch.Generator().manual_seed(int(state))], 0.0, 1.0, memory
    for t in range(3):
        step = model.imagine(at, actions[:, 0, t], generator, denoise_steps=1)
        value += weight * float(step.reward)
        weight *= 0.9 * (1 - float(step.terminated))
        at = step.memory
    assert value == pytest.approx(returns[0, 0].item(), abs=ONCE_ROUNDED)
    policy = ActorCriticPolicy(spaces.Box(-1, 1, (model.readout_size,)), dynamics.action_space, lambda _: 0.0)

    @torch.no_grad()
    def critic(memory):
        return policy.predict_values(memory.readout())[:, 0]

    further = WorldModelDynamics(model, discount=0.9, seed=3, terminal_value=critic).evaluate(memory, actions)
    assert value + weight * float(critic(at)) == pytest.approx(further[0, 0].item(), abs=ONCE_ROUNDED)
    assert abs(weight * float(critic(at))) > 1e-3
    wrong = WorldModelDynamics(model, terminal_value=lambda memory: policy.predict_values(memory.readout()))
    with pytest.raises(ValueError, match="Terminal values of shape .2, 1. are not .2,."):
        wrong.evaluate(memory, actions)


def test_the_planner_starts_anew_where_an_episode_starts(checkpoint):
    model = shared_engine(checkpoint).model
    episode = EpisodeStore(checkpoint + "/contexts")[0]
    planner = planner_policy(model, CEMConfig(horizon=3, samples=4, elites=2, iterations=1))
    _, state = planner.predict(episode.frames[[0, 1]])
    actions, state = planner.predict(episode.frames[[2, 0]], state, np.array([False, True]))
    assert state.memory.frames.tolist() == [2, 1]
    assert actions.shape == (2,) and all(planner.action_space.contains(a) for a in actions)
    with pytest.raises(ValueError, match="rows"):
        planner.predict(episode.frames[:3], state)


@dataclass(frozen=True)
class Searches:
    """A plan that only counts."""

    rows: torch.Tensor

    def where(self, mask, other):
        return Searches(torch.where(mask, self.rows, other.rows))


class Shooting:
    """Random shooting: the first action of the best of a few random sequences."""

    def __init__(self, actions, horizon=3, samples=4):
        self.actions, self.shape = actions, (samples, horizon)

    def prior(self, rows):
        return Searches(torch.zeros(rows, dtype=torch.int64))

    def plan(self, dynamics, memory, plan, generators):
        tries = torch.stack([torch.randint(self.actions, self.shape, generator=g) for g in generators])
        best = dynamics.evaluate(memory, tries).cpu().argmax(1)
        return tries[torch.arange(len(best)), best, 0], Searches(plan.rows + 1), {}


def test_another_planner_plays_too(checkpoint):
    model = shared_engine(checkpoint).model
    policy = PlannerPolicy(model, Shooting(actions=7), WorldModelDynamics(model), seed=2)
    make = partial(make_image_env, "MiniGrid-MemoryS7-v0", max_steps=5)
    alone, beside = (evaluate_policy(policy, make, 2, num_envs=n) for n in (1, 2))
    assert (alone.lengths == 5).all() and np.array_equal(alone.first_actions, beside.first_actions)
    frames = np.stack([make().reset(seed=i)[0] for i in range(2)])
    _, state = policy.predict(frames)
    _, state = policy.predict({"image": frames, "mission": np.zeros((2, 3))}, state, np.array([False, True]))
    assert state.plan.rows.tolist() == [2, 1]


def test_any_dynamics_with_the_same_actions_is_searched(checkpoint):
    model = shared_engine(checkpoint).model
    frames = np.zeros((2, *model.config.frame_shape), np.uint8)
    targets = torch.tensor([[3] * 5, [6] * 5])
    dynamics = Target(spaces.Discrete(7), targets)
    actions, _ = PlannerPolicy(model, CEM(CONFIG, dynamics.action_space), dynamics).predict(frames)
    assert actions.tolist() == [3, 6]
    with pytest.raises(ValueError, match="The dynamics take actions of Discrete.4."):
        PlannerPolicy(model, CEM(CONFIG, spaces.Discrete(4)), Target(spaces.Discrete(4), targets))


def test_one_image_is_found_in_what_is_observed(checkpoint):
    model = shared_engine(checkpoint).model
    policy, frames = planner_policy(model), np.zeros((1, *model.config.frame_shape), np.uint8)
    with pytest.raises(ValueError, match="observation .a, b. must hold one image, not 2"):
        policy.predict({"a": frames, "b": frames})
    with pytest.raises(ValueError, match="do not fit the world model"):
        policy.predict(frames[:, :8])
