"""What begins alike is unrolled once, and every candidate's return is that of unrolling it alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_agents.planning import CEM, CEMConfig, WorldModelDynamics
from lssvwm_agents.planning.prefixes import distinct, trees
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.spaces import space_to_json
from support.counting import CountingEngine
from support.small_models import BACKBONE, CLOSE, double_model, random_clip

ONE_LAYER = replace(BACKBONE, blocks=(2,))
SPACES = {
    "discrete": space_to_json(spaces.Discrete(4)),
    "several": space_to_json(spaces.MultiDiscrete([3, 2])),
    "box": space_to_json(spaces.Box(np.float32([-1, -2]), np.float32([1, 2]))),
}


def examples(n: int):
    return settings(max_examples=n, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def models() -> dict[str, WorldModel]:
    torch.set_num_threads(1)
    return {name: double_model(action_space=space, backbone=ONE_LAYER) for name, space in SPACES.items()}


def candidates(space: str, rows: int, count: int, horizon: int, rng: np.random.Generator) -> torch.Tensor:
    """(B, S, horizon[, A]) of few distinct actions, so that many sequences begin alike or are the same."""
    if space == "discrete":
        return torch.from_numpy(rng.integers(0, 2, (rows, count, horizon)))
    if space == "several":
        return torch.from_numpy(rng.integers(0, 2, (rows, count, horizon, 2)))
    pool = rng.uniform(-1, 1, (3, 2)).astype(np.float32)
    return torch.from_numpy(pool[rng.integers(0, 3, (rows, count, horizon))])


def unrolled_alone(dynamics: WorldModelDynamics, memory, actions: torch.Tensor) -> list[list[float]]:
    """Every candidate by itself, the reference."""
    returns = []
    for row, sequences in enumerate(actions):
        seed = np.random.SeedSequence([dynamics.seed, int(memory.frames[row])]).generate_state(1, np.uint32)[0]
        returns.append([])
        for sequence in sequences:
            noise, at = [torch.Generator().manual_seed(int(seed))], memory.select(torch.tensor([row]))
            value, weight = 0.0, 1.0
            for action in sequence:
                step = dynamics.engine.model.imagine(at, action[None], noise, dynamics.denoise_steps)
                value += weight * float(step.reward)
                weight *= dynamics.discount * (1 - float(step.terminated))
                at = step.memory
            returns[-1].append(value)
    return returns


@pytest.mark.parametrize("space", SPACES)
@examples(5)
@given(
    rows=st.integers(1, 3),
    count=st.integers(1, 5),
    horizon=st.integers(1, 3),
    most=st.sampled_from([1, 2, 3, 5, 256]),
    seed=st.integers(0, 999),
)
def test_returns_are_those_of_every_candidate_alone(models, space, rows, count, horizon, most, seed):
    model, rng = models[space], np.random.default_rng(seed)
    frames, _, _ = random_clip(model, rows, 2)
    history = candidates(space, rows, 1, 2, rng)[:, 0]
    memory, _ = model.observe(model.initial_memory(rows), frames, history)
    if rows > 1:  # rows of another age meet other noise
        later, _ = model.observe(memory, frames[:, :1], history[:, :1])
        memory = memory.where(torch.arange(rows) != 1, later)
    engine = CountingEngine(model)
    dynamics = WorldModelDynamics(engine, discount=0.9, denoise_steps=1, seed=3, max_rows=most)
    actions = candidates(space, rows, count, horizon, rng)
    before = memory.clone()
    returns = dynamics.evaluate(memory, actions)
    np.testing.assert_allclose(returns.numpy(), unrolled_alone(dynamics, memory, actions), **CLOSE)
    assert all(torch.equal(a, b) for a, b in zip(memory.tensors().values(), before.tensors().values(), strict=True))
    assert max(engine.rows) <= most and engine.drawn <= len(engine.rows) * min(rows, 2)
    if most == 256:
        prefixes = {(r, s[: t + 1].numpy().tobytes()) for r in range(rows) for s in actions[r] for t in range(horizon)}
        assert sum(engine.rows) == len(prefixes) and len(engine.rows) == horizon


@examples(60)
@given(
    rows=st.integers(1, 4),
    count=st.integers(1, 9),
    horizon=st.integers(1, 4),
    most=st.integers(1, 12),
    seed=st.integers(0, 999),
    space=st.sampled_from(list(SPACES)),
)
def test_a_tree_spells_its_sequences(rows, count, horizon, most, seed, space):
    actions = candidates(space, rows, count, horizon, np.random.default_rng(seed))
    row, sequences, place = distinct(actions)
    assert torch.equal(sequences[place].view_as(actions), actions)
    assert torch.equal(row[place].view(rows, count), torch.arange(rows)[:, None].expand(rows, count))
    spelt, rows_of = [], []
    for tree in trees(row, sequences, most):
        assert len(tree.levels) == horizon and len(tree.levels[-1].action) <= most
        paths: list[torch.Tensor] = []
        at = torch.arange(rows)
        for level in tree.levels:
            assert not level.straight or torch.equal(level.parent, torch.arange(len(at)))
            at, paths = at[level.parent], [path[level.parent] for path in paths] + [level.action]
            assert torch.equal(at, level.row)
        spelt.append(torch.stack(paths, 1))
        rows_of.append(at)
        assert tree.rows == sorted(set(at.tolist()))
    assert torch.equal(torch.cat(spelt), sequences) and torch.equal(torch.cat(rows_of), row)


def test_a_decision_needs_fewer_rows_the_more_it_knows(models):
    """In the first round actions are random; where elites agree, what begins alike is most of it."""
    model = models["discrete"]
    engine = CountingEngine(model)
    dynamics = WorldModelDynamics(engine)
    cem = CEM(CEMConfig(horizon=6, samples=32, elites=4, iterations=3), dynamics.action_space)
    frames, actions, _ = random_clip(model, 1, 3)
    memory, _ = model.observe(model.initial_memory(1), frames, actions)
    cem.plan(dynamics, memory, cem.prior(1), [torch.Generator().manual_seed(0)])
    rounds = [sum(engine.rows[i : i + 6]) for i in range(0, 18, 6)]
    assert len(engine.rows) == 18 and rounds[0] < 6 * 32 * 0.85 and rounds[2] < rounds[0] * 0.8
