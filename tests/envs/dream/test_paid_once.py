"""What an end pays is paid once, at the end that was decided; planners expect what dreams pay on average."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
import pytest
import torch

from lssvwm_agents.planning.dynamics import WorldModelDynamics
from lssvwm_envs.dream.config import DreamConfig
from lssvwm_envs.dream.dreams import Dreams
from lssvwm_envs.dream.env import DreamEnv
from lssvwm_rl.model.checkpoints import load_engine
from lssvwm_rl.model.heads import BINS, LIMIT, symlog, two_hot
from lssvwm_rl.model.world_model import WorldModel

CHANCE, ROWS, HORIZON = 0.4, 64, 12
ROUNDED = 1e-4  # of logits in fp32


@pytest.fixture
def coin(untrained, tmp_path) -> Callable[..., str]:
    """Checkpoints whose every frame ends the episode with one probability, and that pay 1 for the end alone."""

    def make(chance: float) -> str:
        folder = tmp_path / str(chance)
        shutil.copytree(untrained(), folder)
        model = WorldModel.from_pretrained(folder)
        nothing, one = ((two_hot(symlog(torch.tensor(paid)), LIMIT, BINS) + 1e-12).log().float() for paid in (0.0, 1.0))
        with torch.no_grad():
            for head in (model.reward_head, model.continuation_head):
                for parameter in head.parameters():
                    parameter.zero_()
            model.continuation_head.mlp[2].bias.fill_(np.log(chance / (1 - chance)))
            model.reward_head.mlp[0].bias[0], model.reward_head.ended[0] = -30.0, 60.0  # SiLU: 0, and 30
            model.reward_head.mlp[2].bias.copy_(nothing)
            model.reward_head.mlp[2].weight[:, 0] = (one - nothing) / 30
        model.save_pretrained(folder)
        return str(folder)

    return make


def paid(checkpoint: str, **settings) -> tuple[np.ndarray, np.ndarray]:
    """Rewards (HORIZON, ROWS) and whether each step was a row's end; steps after that are none and pay nothing."""
    dreams = Dreams(DreamConfig(checkpoint, horizon=HORIZON, denoise_steps=1, **settings), ROWS)
    dreams.reseed(np.ones(ROWS, bool), 0)
    dreams.begin(np.ones(ROWS, bool))
    steps = [dreams.step(torch.zeros(ROWS, dtype=torch.int64)) for _ in range(HORIZON)]
    return np.stack([step.reward.numpy() for step in steps]), np.stack([step.terminated for step in steps])


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_a_drawn_end_is_paid_when_it_is_there_and_never_before(coin, engine):
    rewards, ended = paid(coin(CHANCE), end="sample", engine=engine)
    np.testing.assert_allclose(rewards, ended, atol=ROUNDED)
    assert rewards.sum(axis=0).max() < 1 + ROUNDED and ended.any(axis=0).mean() > 0.9
    deviation = np.sqrt(CHANCE * (1 - CHANCE) / ROWS)
    assert abs(ended[0].mean() - CHANCE) < 4 * deviation


def test_an_end_by_the_threshold_is_paid_in_full_and_one_that_is_not_reached_not_at_all(coin):
    rewards, ended = paid(coin(0.6))
    assert ended[0].all() and not ended[1:].any()
    np.testing.assert_allclose(rewards, ended, atol=ROUNDED)
    rewards, ended = paid(coin(CHANCE))
    assert not ended.any() and np.abs(rewards).max() < ROUNDED


def test_the_single_environment_pays_likewise(coin):
    env = DreamEnv(coin(CHANCE), horizon=HORIZON, denoise_steps=1, end="sample")
    for seed in range(8):
        env.reset(seed=seed)
        over = False
        while not over:
            _, reward, terminated, truncated, _ = env.step(0)
            assert reward == pytest.approx(float(terminated), abs=ROUNDED)
            over = terminated or truncated


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_a_planner_expects_what_dreams_pay_on_average(coin, engine):
    """1 if the end comes in time: with probability 1 - (1 - p)^steps."""
    runs = load_engine(coin(CHANCE), engine=engine)
    step = runs.imagine(runs.model.initial_memory(1), torch.zeros(1, dtype=torch.int64), [torch.Generator()], 1)
    assert step.reward.item() == pytest.approx(CHANCE, abs=ROUNDED)
    for steps in (1, 3, 6):
        actions = torch.zeros(1, 1, steps, dtype=torch.int64)
        value = WorldModelDynamics(runs, discount=1.0).evaluate(runs.model.initial_memory(1), actions)
        assert value.item() == pytest.approx(1 - (1 - CHANCE) ** steps, abs=ROUNDED * steps)
