"""What planners are not to exceed, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import pytest
import torch
from gymnasium import spaces

from lssvwm_agents.planning import (
    PLANNERS,
    CEMConfig,
    ICEMConfig,
    MPPIConfig,
    ShootingConfig,
    WorldModelDynamics,
    planner_policy,
)
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_rl.spaces import space_to_json
from support.counting import CountingEngine
from support.planners import BOX, generators, make, small
from support.small_models import BACKBONE, double_model, random_clip, untrained_checkpoint


@pytest.mark.parametrize("name", PLANNERS)
def test_rows_at_a_time_bound_a_search_and_do_not_change_it(name):
    """In fp64, of every planner in a world model."""
    model = double_model(action_space=space_to_json(BOX), backbone=replace(BACKBONE, blocks=(2,)))
    frames, _, _ = random_clip(model, 3, 2)
    memory, _ = model.observe(model.initial_memory(3), frames, torch.rand(3, 2, 4, generator=generators(1)[0]))
    few = {"samples": 16, "horizon": 2} | ({"elites": 4} if name in ("cem", "icem") else {})
    planner, found = make(name, BOX, **few), []
    for most in (5, 40, 10_000):
        engine = CountingEngine(model)
        dynamics = WorldModelDynamics(engine, max_rows=most)
        action, _, info = planner.plan(dynamics, memory, planner.prior(3), generators(3))
        found.append((action, info["best_return"], info["mean_return"]))
        assert max(engine.rows) <= most and (most != 5 or max(engine.rows) == 5)
    for other in found[1:]:
        for ours, theirs in zip(other, found[0], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PLANNERS)
def test_a_planner_looks_beyond_the_end_of_a_dream(name, tmp_path):
    """Where a dream is cut is as unknown to the dynamics as a real environment's time limit."""
    checkpoint = untrained_checkpoint(tmp_path, ends=0.0)
    config, _ = PLANNERS[name]
    policy = planner_policy(shared_engine(checkpoint).model, config(**small(name) | {"samples": 16}))
    env = gym.make("lssvwm/Dream-v0", checkpoint=checkpoint, horizon=2, denoise_steps=1)
    (frame, _), state, ended, steps = env.reset(seed=0), None, False, 0
    while not ended:
        actions, state = policy.predict(frame[None], state)
        frame, _, terminated, truncated, _ = env.step(actions[0])
        ended, steps = terminated or truncated, steps + 1
    assert truncated and steps == 2 < policy.planner.config.horizon


@pytest.mark.parametrize("name", PLANNERS)
@pytest.mark.parametrize(
    "space",
    [
        spaces.MultiBinary([2, 3]),
        spaces.Dict(a=BOX),
        spaces.Box(-1, 1, (2, 2)),
        spaces.MultiDiscrete([[2, 3]]),
        spaces.Text(3),
    ],
    ids=lambda space: type(space).__name__,
)
def test_other_spaces_are_refused(name, space):
    with pytest.raises(ValueError, match="Action space .* is not supported; use Discrete, or one-dimensional"):
        make(name, space)


def test_what_is_no_config_is_refused():
    model = double_model(backbone=replace(BACKBONE, blocks=(2,)))
    with pytest.raises(ValueError, match="'cem' is no planner's config; give one of CEMConfig, ICEMConfig"):
        planner_policy(model, "cem")


@pytest.mark.parametrize("shape", [(1, 0, 3), (1, 3, 0), (0, 2, 3), (2, 2, 3), (1, 3), (1, 2, 3, 1)])
def test_candidates_of_other_shapes_are_refused(shape):
    model = double_model(backbone=replace(BACKBONE, blocks=(2,)))
    with pytest.raises(ValueError, match="do not fit; give .1, 'S', 'horizon'."):
        WorldModelDynamics(model).evaluate(model.initial_memory(1), torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize(
    ("config", "bad"),
    [
        *((config, {"horizon": 0}) for config in (CEMConfig, ICEMConfig, MPPIConfig, ShootingConfig)),
        *((config, {"seconds": 0.0}) for config in (CEMConfig, ICEMConfig, MPPIConfig)),
        (CEMConfig, {"min_std": 0.0}),
        (CEMConfig, {"elites": 65}),
        (ICEMConfig, {"elites": 33}),
        (ICEMConfig, {"decay": 0.9}),
        (ICEMConfig, {"keep": 0.0}),
        (ICEMConfig, {"colour": -1.0}),
        (ICEMConfig, {"init_std": 0.0}),
        (MPPIConfig, {"temperature": 0.0}),
        (MPPIConfig, {"std": 0.0}),
        (ShootingConfig, {"std": 0.0}),
    ],
)
def test_settings_out_of_range_are_refused(config, bad):
    with pytest.raises(ValueError, match="must be|Need|cannot"):
        config(**bad)
