"""Two-hot rewards and the end's probability."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_rl.model.heads import BINS, LIMIT, ContinuationHead, RewardHead, symexp, symlog, two_hot


@settings(deadline=None)
@given(st.floats(-140, 140, allow_subnormal=False))  # which training turns off
def test_two_hot_keeps_the_reward(reward):
    weights = two_hot(symlog(torch.tensor([reward], dtype=torch.float64)), LIMIT, BINS)
    assert weights.sum().item() == pytest.approx(1) and (weights > 0).sum() <= 2
    mean = (weights * torch.linspace(-LIMIT, LIMIT, BINS, dtype=torch.float64)).sum()
    assert symexp(mean).item() == pytest.approx(reward, rel=1e-10, abs=1e-10)


def test_rewards_beyond_the_bins_are_the_last_bin():
    assert two_hot(torch.tensor(99.0), LIMIT, BINS)[-1] == 1
    assert two_hot(torch.tensor(-99.0), LIMIT, BINS)[0] == 1


def test_an_untrained_head_expects_no_reward():
    head = RewardHead(4, 8).double()
    # The bins are symmetric but for their rounding to fp32, numbers of up to LIMIT.
    assert head(torch.randn(5, 4, dtype=torch.float64)).abs().max() < LIMIT * 2**-24


def test_reward_loss_learns_two_rewards_from_features():
    torch.manual_seed(0)
    head, features, rewards = RewardHead(2, 16), torch.eye(2), torch.tensor([-3.0, 0.9])
    optimizer = torch.optim.Adam(head.parameters(), 0.02)
    for _ in range(300):
        optimizer.zero_grad()
        head.loss(features, rewards).mean().backward()
        optimizer.step()
    torch.testing.assert_close(head(features), rewards, rtol=0.05, atol=0.05)


def test_continuation_loss_is_the_cross_entropy_of_its_probability():
    torch.manual_seed(0)
    head, features = ContinuationHead(4, 8).double(), torch.randn(6, 4, dtype=torch.float64)
    ended = torch.tensor([True, False] * 3)
    expected = F.binary_cross_entropy(head(features), ended.double(), reduction="none")
    torch.testing.assert_close(head.loss(features, ended), expected, rtol=1e-12, atol=1e-12)
