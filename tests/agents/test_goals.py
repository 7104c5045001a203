"""Goals in pixels and in features: by hand, and where the true arm is the dynamics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from lssvwm_agents.planning import CEM, CEMConfig, WorldModelDynamics, planner_policy
from lssvwm_agents.planning.goals import feature_reward, pixel_reward
from lssvwm_envs.reacher.arms import draw_arms, places, turned
from lssvwm_rl.model.outputs import Imagined
from lssvwm_rl.spaces import space_to_json
from support.arms import ArmEngine, arm_memory
from support.small_models import CLOSE, double_model, random_clip

PIXELS = 24
BOX = space_to_json(spaces.Box(-1, 1, (2,)))
START, TARGET = np.array([[0.4, 1.0]]), np.array([[-0.6, -0.3]])


def reach(reward, steps: int = 20) -> np.ndarray:
    """Joint angles (1, 2) after some steps of planning in the true arm."""
    dynamics, angles = WorldModelDynamics(ArmEngine(PIXELS), reward=reward), START
    cem = CEM(CEMConfig(horizon=3, samples=16, elites=4, iterations=2), dynamics.action_space)
    plan = cem.prior(1)
    for step in range(steps):
        generators = [torch.Generator().manual_seed(step)]
        action, plan, _ = cem.plan(dynamics, arm_memory(angles, TARGET), plan, generators)
        angles = turned(angles, action.numpy())
    return angles


def test_a_planner_turns_the_arm_as_in_the_picture():
    """A goal with another place of the tip than the target, which the model's own reward leads to."""
    wanted = np.array([[1.3, -0.2]])
    goal = draw_arms(wanted, TARGET, PIXELS)[0]
    assert np.abs(reach(pixel_reward(goal, blur=2)) - wanted).max() < 0.1
    assert np.hypot(*(places(reach(None))[1] - TARGET)[0]) < 0.02 < 1 < np.hypot(*(places(wanted)[1] - TARGET)[0])


def test_the_nearer_the_cheaper_where_it_is_blurred():
    """Without blur, arms that do not overlap are all as far apart as each other; with it, every step counts."""
    turns = np.linspace(0, 2.8, 15)
    arms = draw_arms(np.stack([turns, 0 * turns], axis=1), np.repeat(TARGET, 15, axis=0), 32)
    step = Imagined(
        torch.from_numpy(arms), None, torch.zeros(15, 2, dtype=torch.float64), torch.zeros(15), None, torch.zeros(15)
    )
    sharp, blurred = (pixel_reward(arms[0], blur)(step) for blur in (0.0, 4.0))
    assert sharp[0] == blurred[0] == 0
    assert (blurred.diff() < 0).all() and (sharp.diff() >= 0).sum() >= 4


@pytest.mark.parametrize("blur", [0.0, 1.5])
def test_pixels_by_hand(blur):
    frames = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3), dtype=np.uint8)
    step = Imagined(
        torch.from_numpy(frames), None, torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3), None, torch.zeros(3)
    )
    expected = []
    for frame in frames / 255:
        apart, blurred = frame - frames[0] / 255, np.zeros_like(frame)
        for y in range(6):
            for x in range(5):
                near = np.exp(
                    -((np.arange(6)[:, None] - y) ** 2 + (np.arange(5) - x) ** 2) / (2 * max(blur, 0.01) ** 2)
                )
                blurred[y, x] = (near[..., None] * apart).sum((0, 1)) / near.sum()
        expected.append(-np.mean(blurred**2))
    np.testing.assert_allclose(pixel_reward(frames[0], blur)(step).numpy(), expected, **CLOSE)


def test_features_are_those_of_the_goal_after_a_memory():
    model = double_model(action_space=BOX)
    frames, _, _ = random_clip(model, 2, 3)
    actions = torch.rand(2, 3, 2)
    memory, _ = model.observe(model.initial_memory(2), frames, actions)
    one = memory.select(torch.tensor([0]))
    after, _ = model.observe(memory, frames[:, :1], torch.zeros(2, 1, 2))
    step = Imagined(frames[:, 0], None, torch.zeros(2, 2), torch.zeros(2), after, torch.zeros(2))
    rewards = feature_reward(model, frames[0, 0].numpy(), one)(step)
    expected = -(after.features[1] - after.features[0]).square().mean().item()
    assert abs(rewards[0].item()) < 1e-20 and rewards[1].item() == pytest.approx(expected, rel=1e-9)
    alone, _ = model.observe(model.initial_memory(1), frames[:1, :1], torch.zeros(1, 1, 2))
    without = feature_reward(model, frames[0, 0].numpy())(step)
    torch.testing.assert_close(without, -(after.features - alone.features).square().mean(1), **CLOSE)


@pytest.mark.parametrize("most", [2, 7, 256])
def test_returns_are_sums_of_goals_rewards_however_many_rows_at_a_time(most):
    """Discounted, over every candidate alone."""
    model = double_model(action_space=BOX)
    frames, _, _ = random_clip(model, 1, 2)
    memory, _ = model.observe(model.initial_memory(1), frames, torch.zeros(1, 2, 2))
    reward = pixel_reward(frames[0, 0].numpy(), blur=1)
    dynamics = WorldModelDynamics(model, discount=0.9, max_rows=most, reward=reward)
    candidates = torch.rand(1, 9, 2, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    returns = dynamics.evaluate(memory, candidates)[0]
    for found, candidate in zip(returns, candidates[0], strict=True):
        seed = np.random.SeedSequence([0, 2]).generate_state(1, np.uint32)[0]
        noise, at, total, weight = [torch.Generator().manual_seed(int(seed))], memory, 0.0, 1.0
        for action in candidate:
            step = model.imagine(at, action[None], noise, 1)
            total += weight * float(reward(step))
            weight *= 0.9 * (1 - float(step.terminated))
            at = step.memory
        assert found.item() == pytest.approx(total, abs=1e-10)


def test_a_policy_seeks_the_goal():
    model = double_model(action_space=BOX)
    frames, _, _ = random_clip(model, 1, 1)
    goal = pixel_reward(frames[0, 0].numpy())
    policy = planner_policy(model, CEMConfig(horizon=2, samples=8, elites=2, iterations=1), reward=goal)
    assert policy.dynamics.reward is goal and policy.predict(frames[:, 0].numpy())[0].shape == (1, 2)


def test_bad_goals_are_refused():
    model = double_model(action_space=BOX)
    frames, _, _ = random_clip(model, 2, 1)
    goal = frames[0, 0].numpy()
    for bad, says in ((goal / 255, "float64"), (frames[0].numpy(), r"\(1, 16, 16, 3\)"), (frames[0, 0], "Tensor")):
        with pytest.raises(ValueError, match=f"A goal is one picture .H, W, C. uint8, not .*{says}"):
            pixel_reward(bad)
    with pytest.raises(ValueError, match="A blur of -1 pixels"):
        pixel_reward(goal, blur=-1)
    step = Imagined(frames[:, 0], None, torch.zeros(2, 2), torch.zeros(2), None, torch.zeros(2))
    with pytest.raises(ValueError, match=r"The goal \(8, 16, 3\) is no frame \(16, 16, 3\); resize it"):
        pixel_reward(goal[:8])(step)
    with pytest.raises(ValueError, match=r"The goal \(8, 16, 3\) is no frame \(16, 16, 3\); resize it"):
        feature_reward(model, goal[:8])
    with pytest.raises(ValueError, match="A goal follows one memory, not 2"):
        feature_reward(model, goal, model.initial_memory(2))
    memory, _ = model.observe(model.initial_memory(2), frames, torch.zeros(2, 1, 2))
    dynamics = WorldModelDynamics(model, reward=lambda step: step.reward[:, None])
    with pytest.raises(ValueError, match=r"Rewards of shape \(2, 1\) are not \(2,\)"):
        dynamics.evaluate(memory, torch.zeros(2, 1, 1, 2))
