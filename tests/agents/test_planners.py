"""Every planner on problems whose optimum is known, and what all of them promise."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from gymnasium import spaces

from lssvwm_agents.planning import (
    PLANNERS,
    planner_policy,
)
from lssvwm_agents.planning.noise import coloured_noise
from lssvwm_rl.spaces import space_to_json
from support.planners import BOX, generators, make, small
from support.small_models import BACKBONE, double_model, random_clip

ITERATIVE = ("cem", "icem", "mppi")


class Quadratic:
    """Return is minus the squared distance to another sequence for every row, in fp64."""

    def __init__(self, rows: int, horizon: int, size: int = 4, seconds: float = 0.0):
        self.action_space, self.seconds, self.calls = spaces.Box(-1, 1, (size,)), seconds, 0
        generator = torch.Generator().manual_seed(7)
        self.targets = torch.rand(rows, horizon, size, generator=generator, dtype=torch.float64) * 1.6 - 0.8

    def cost(self, sequences: torch.Tensor) -> torch.Tensor:
        return (sequences.double() - self.targets).square().flatten(1).sum(1)

    def evaluate(self, memory, actions):
        self.calls += 1
        time.sleep(self.seconds)
        return -(actions.double() - self.targets[:, None]).square().flatten(2).sum(-1)


class Maze:
    """A deterministic MDP: random moves between 6 states, rewards of state and action; a start for every row."""

    def __init__(self, actions: int, rows: int):
        generator = torch.Generator().manual_seed(5)
        self.action_space = spaces.Discrete(actions)
        self.moves = torch.randint(6, (6, actions), generator=generator)
        self.rewards = torch.rand(6, actions, generator=generator, dtype=torch.float64)
        self.starts = torch.arange(rows) % 6

    def evaluate(self, memory, actions):
        at = self.starts[:, None].expand(actions.shape[:2])
        returns = torch.zeros(actions.shape[:2], dtype=torch.float64)
        for action in actions.unbind(2):
            returns, at = returns + self.rewards[at, action], self.moves[at, action]
        return returns

    def optimum(self, horizon: int) -> tuple[torch.Tensor, torch.Tensor]:
        """First actions and returns (B,) of the best of all sequences."""
        every = torch.tensor(list(product(range(self.action_space.n), repeat=horizon)))
        returns, best = self.evaluate(None, every.expand(len(self.starts), -1, -1)).max(1)
        return every[best, 0], returns


class Holes:
    """Another problem, in which what begins with actions of `where` has no finite return."""

    def __init__(self, inner, where, value=float("nan")):
        self.inner, self.where, self.value, self.action_space = inner, where, value, inner.action_space

    def evaluate(self, memory, actions):
        returns = self.inner.evaluate(memory, actions)
        return returns.masked_fill(self.where(actions), self.value)


@pytest.mark.parametrize(
    ("name", "settings", "bound"),
    [
        ("cem", {"samples": 300, "elites": 30, "iterations": 30}, 1e-3),
        ("icem", {"samples": 300, "elites": 30, "iterations": 30, "colour": 0.0, "decay": 1.0}, 1e-3),
        ("mppi", {"samples": 300, "iterations": 30, "std": 0.1}, 0.1),
    ],
)
def test_the_minimum_of_a_quadratic_is_found(name, settings, bound):
    problem = Quadratic(rows=4, horizon=10)
    planner = make(name, BOX, horizon=10, **settings)
    action, plan, info = planner.plan(problem, None, planner.prior(4), generators(4))
    found = {"cem": lambda: plan.best, "icem": lambda: plan.elites[:, 0], "mppi": lambda: plan.parameters[..., 0]}
    sequences = found[name]()
    assert (problem.cost(sequences) <= bound).all()
    assert torch.equal(action, sequences[:, 0]) and action.dtype == torch.float32
    if name != "mppi":
        torch.testing.assert_close(info["best_return"], -problem.cost(sequences).float())


def test_shooting_hits_what_is_near():
    problem = Quadratic(rows=3, horizon=1, size=2)
    planner = make("shooting", problem.action_space, horizon=1, samples=2000, std=1.0)
    action, _, info = planner.plan(problem, None, planner.prior(3), generators(3))
    assert (problem.cost(action[:, None]) <= 0.02).all()
    torch.testing.assert_close(info["best_return"], -problem.cost(action[:, None]).float())


@pytest.mark.parametrize("name", PLANNERS)
def test_the_best_way_through_a_small_mdp_is_found(name):
    problem = Maze(actions=3, rows=6)
    more = {"iterations": 8} if name in ITERATIVE else {}
    planner = make(name, problem.action_space, horizon=4, samples=512, **more)
    action, _, info = planner.plan(problem, None, planner.prior(6), generators(6))
    first, returns = problem.optimum(4)
    assert torch.equal(action, first) and action.dtype == torch.int64
    torch.testing.assert_close(info["best_return"].double(), returns, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", PLANNERS)
@pytest.mark.parametrize("space", [spaces.Discrete(3, start=2), spaces.MultiDiscrete([2, 3]), BOX], ids=type)
def test_a_row_does_not_depend_on_its_neighbours(name, space):
    class Sum:
        action_space = space

        def evaluate(self, memory, actions):
            return (memory.view(-1, 1, *[1] * (actions.ndim - 2)) * actions.double()).flatten(2).sum(-1)

    planner, signs = make(name, space, **small(name)), torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
    plan, chosen = planner.prior(3), []
    for step in range(2):
        action, plan, _ = planner.plan(Sum(), signs, plan, generators(3, 10 * step))
        chosen.append(action)
    alone = planner.prior(1)
    for step in range(2):
        action, alone, info = planner.plan(Sum(), signs[1:2], alone, generators(3, 10 * step)[1:2])
        torch.testing.assert_close(action, chosen[step][1:2], atol=1e-5, rtol=0)
        assert space.contains(action[0].numpy().astype(space.dtype))
        assert {figure.shape for figure in info.values()} == {(1,)}


@pytest.mark.parametrize("name", PLANNERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_has_no_finite_return_never_wins(name, value):
    inner = Maze(actions=3, rows=2)
    inner.rewards[:, 0] += 10  # what is best by far is broken
    problem = Holes(inner, lambda actions: (actions[..., 0] == 0) & (torch.arange(2)[:, None] == 1), value)
    planner = make(name, inner.action_space, **small(name))
    action, _, info = planner.plan(problem, None, planner.prior(2), generators(2))
    assert action[0] == 0 and action[1] != 0
    assert info["non_finite"][0] == 0 and info["non_finite"][1] > 0
    assert info["best_return"].isfinite().all() and info["mean_return"].isfinite().all()
    assert (info["best_return"] >= info["mean_return"]).all()
    nowhere = Holes(inner, lambda actions: (torch.arange(2)[:, None] == 1).expand(actions.shape[:2]), value)
    with pytest.raises(ValueError, match="All returns of row 1 are NaN or infinite"):
        planner.plan(nowhere, None, planner.prior(2), generators(2))


@pytest.mark.parametrize("name", ["cem", "icem"])
def test_a_few_finite_returns_are_all_that_is_fitted_to(name):
    """Fewer than there are elites."""
    problem = Holes(Quadratic(rows=1, horizon=2, size=1), lambda actions: actions[:, :, 0, 0] < 0.9)
    planner = make(name, problem.action_space, horizon=2, samples=64, elites=32, iterations=1, momentum=0.0)
    _, plan, info = planner.plan(problem, None, planner.prior(1), generators(1))
    assert info["non_finite"] > 32 and plan.parameters[0, 0, 0, 0] >= 0.9 and plan.parameters.isfinite().all()


@pytest.mark.parametrize("name", ITERATIVE)
@pytest.mark.parametrize("space", [spaces.Discrete(3), BOX], ids=type)
def test_rows_begin_anew_alone(name, space):
    problem = Maze(3, 2) if isinstance(space, spaces.Discrete) else Quadratic(2, 4)
    planner = make(name, space, **small(name))
    prior = planner.prior(2)
    _, plan, _ = planner.plan(problem, None, prior, generators(2))
    mixed = prior.where(torch.tensor([False, True]), plan)
    assert mixed.searched.tolist() == [True, False]
    for ours, theirs, new in zip(*(vars(p).values() for p in (mixed, plan, prior)), strict=True):
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], new[1])
    on, _, _ = planner.plan(problem, None, mixed, generators(2, 5))
    old, _, _ = planner.plan(problem, None, plan, generators(2, 5))
    new, _, _ = planner.plan(problem, None, prior, generators(2, 5))
    torch.testing.assert_close(on, torch.stack([old[0], new[1]]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["cem", "icem"])
def test_a_plan_goes_on_from_the_step_before(name):
    """What was best is moved on by a step: with one iteration it is already better than from nothing."""
    problem = Quadratic(rows=2, horizon=4)
    settings = small(name) | {"samples": 300}
    planner, short = (make(name, BOX, **settings, iterations=n) for n in (20, 1))
    _, plan, _ = planner.plan(problem, None, planner.prior(2), generators(2))
    problem.targets = torch.cat([problem.targets[:, 1:], problem.targets[:, -1:]], 1)
    _, _, warm = short.plan(problem, None, plan, generators(2, 5))
    _, _, cold = short.plan(problem, None, planner.prior(2), generators(2, 5))
    assert (warm["best_return"] > cold["best_return"] + 0.3).all()


def test_a_narrow_deviation_is_widened_at_the_next_step():
    problem = Quadratic(rows=1, horizon=4)
    for name, least in (("cem", 0.05), ("icem", 0.5)):
        planner = make(name, BOX, **small(name), iterations=20)
        _, plan, _ = planner.plan(problem, None, planner.prior(1), generators(1))
        assert plan.parameters[..., 1].max() < 0.045
        again = planner.family.widen(plan.parameters)
        torch.testing.assert_close(again[..., 1], torch.full_like(again[..., 1], least))


@pytest.mark.parametrize("name", ITERATIVE)
def test_a_decision_ends_in_time(name):
    def calls(seconds):
        problem = Quadratic(rows=1, horizon=4, seconds=0.02)
        planner = make(name, BOX, **small(name), iterations=50, seconds=seconds)
        started = time.monotonic()
        planner.plan(problem, None, planner.prior(1), generators(1))
        assert time.monotonic() - started < 1
        return problem.calls

    assert calls(1e-9) == 1 and 2 <= calls(0.1) <= 6


def test_samples_of_icem_become_fewer():
    class Counts(Quadratic):
        def evaluate(self, memory, actions):
            seen.append(actions.shape[1])
            return super().evaluate(memory, actions)

    seen: list[int] = []
    planner = make("icem", BOX, horizon=4, samples=40, elites=10, iterations=4, decay=1.5, keep=0.2)
    planner.plan(Counts(1, 4), None, planner.prior(1), generators(1))
    assert seen == [42, 28, 22, 22]


def test_coloured_noise_finds_smooth_actions_sooner():
    problem = Quadratic(rows=8, horizon=10)
    problem.targets = problem.targets[:, :1].expand(-1, 10, -1)
    costs = []
    for colour in (0.0, 1.0, 2.0):
        planner = make("icem", BOX, horizon=10, colour=colour)
        _, plan, _ = planner.plan(problem, None, planner.prior(8), generators(8))
        costs.append(problem.cost(plan.elites[:, 0]).mean().item())
    assert costs[2] < costs[1] < costs[0] and costs[2] < 0.7 * costs[0]


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("steps", [63, 64])
def test_the_spectrum_of_noise_falls_by_its_colour(beta, steps):
    noise = coloured_noise(torch.empty(4000, steps, 2).double(), beta, torch.Generator().manual_seed(0))
    assert noise.var().item() == pytest.approx(1, abs=0.03) and abs(noise.mean().item()) < 0.03
    torch.testing.assert_close(noise.var(0), torch.ones(steps, 2, dtype=torch.float64), atol=0.15, rtol=0)
    power = torch.fft.rfft(noise, dim=1).abs().square().mean((0, 2))[1:31]
    x, y = torch.arange(1, 31).double().log(), power.log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    assert slope.item() == pytest.approx(-beta, abs=0.05)
    assert coloured_noise(torch.empty(3, 1, 2), beta, torch.Generator().manual_seed(0)).isfinite().all()


@pytest.mark.parametrize("name", PLANNERS)
@pytest.mark.parametrize("space", [spaces.Discrete(4, start=1), spaces.MultiDiscrete([3, 2]), BOX], ids=type)
def test_any_config_makes_a_policy(name, space):
    model = double_model(action_space=space_to_json(space), backbone=replace(BACKBONE, blocks=(2,)))
    config, planner = PLANNERS[name]
    policy = planner_policy(model, config(horizon=2, samples=16), seed=3)
    assert type(policy.planner) is planner and policy.seed == policy.dynamics.seed == 3
    frames, _, _ = random_clip(model, 2, 2)
    actions, state = policy.predict(frames[:, 0].numpy())
    actions, _ = policy.predict(frames[:, 1].numpy(), state, np.array([False, True]))
    assert len(actions) == 2 and all(policy.action_space.contains(action) for action in actions)
