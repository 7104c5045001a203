"""Two-hot rewards and the end's probability."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_rl.model.heads import (
    BINS,
    LIMIT,
    ContinuationHead,
    RewardHead,
    expected_reward,
    symexp,
    symlog,
    two_hot,
)
from support.small_models import awake


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
    assert head.both(torch.randn(5, 4, dtype=torch.float64)).abs().max() < LIMIT * 2**-24


def test_reward_loss_learns_two_rewards_from_features():
    torch.manual_seed(0)
    head, features, rewards, never = RewardHead(2, 16), torch.eye(2), torch.tensor([-3.0, 0.9]), torch.zeros(2)
    optimizer = torch.optim.Adam(head.parameters(), 0.02)
    for _ in range(300):
        optimizer.zero_grad()
        head.loss(features, rewards, never).mean().backward()
        optimizer.step()
    torch.testing.assert_close(head(features, never), rewards, rtol=0.05, atol=0.05)


def test_what_ends_pay_is_told_apart_from_how_probable_they_are():
    """Ends are coins that show in the features alone; those of one kind pay 1, of another they cost 2, else nothing."""
    torch.manual_seed(0)
    probability, pays = torch.tensor([0.1, 0.4, 0.4, 0.8]), torch.tensor([1.0, 1.0, -2.0, 1.0])
    kinds = torch.randint(0, 4, (4_000,))
    ended, features = torch.rand(4_000) < probability[kinds], F.one_hot(kinds, 4).float()
    reward, end = RewardHead(4, 32), ContinuationHead(4, 32)
    optimizer = torch.optim.Adam([*reward.parameters(), *end.parameters()], 0.02)
    for _ in range(200):
        optimizer.zero_grad()
        (reward.loss(features, pays[kinds] * ended, ended) + end.loss(features, ended)).mean().backward()
        optimizer.step()
    both, chance = reward.both(torch.eye(4)), end(torch.eye(4))
    torch.testing.assert_close(both, torch.stack([torch.zeros(4), pays], dim=-1), rtol=0, atol=0.03)
    expected = expected_reward(both, chance)
    torch.testing.assert_close(expected, probability * pays, rtol=0, atol=0.06)
    assert torch.equal(reward(torch.eye(4), torch.tensor([False, True, True, False]))[1:3], both[1:3, 1])


@pytest.mark.parametrize("focus", [False, True])
def test_a_head_that_the_end_does_not_change_says_what_it_said_without_it(focus):
    """To the bit, whatever the probability of the end: as the expected reward of the versions before."""
    torch.manual_seed(0)
    head, features = awake(RewardHead(6, 16, focus)), torch.randn(9, 5, 6)
    with torch.no_grad():
        head.ended.zero_()
    before = symexp((head.mlp(head.focus(features)).softmax(dim=-1) * head.bins).sum(dim=-1))
    for said in (head(features, torch.rand(9, 5) < 0.5), expected_reward(head.both(features), torch.rand(9, 5))):
        assert torch.equal(said, before)


def test_the_two_rewards_by_hand():
    torch.manual_seed(0)
    head, features = awake(RewardHead(6, 16, focus=True)).double(), torch.randn(7, 6, dtype=torch.float64)
    for ended in (0, 1):
        hidden = head.mlp[0](head.focus(features)) + ended * head.ended
        shares = torch.exp(head.mlp[2](hidden / (1 + torch.exp(-hidden))))
        mean = (shares * torch.linspace(-LIMIT, LIMIT, BINS)).sum(dim=-1) / shares.sum(dim=-1)
        torch.testing.assert_close(head.both(features)[:, ended], mean.sign() * (mean.abs().exp() - 1))
    assert (head.both(features).diff() != 0).all()


def test_continuation_loss_is_the_cross_entropy_of_its_probability():
    torch.manual_seed(0)
    head, features = ContinuationHead(4, 8).double(), torch.randn(6, 4, dtype=torch.float64)
    ended = torch.tensor([True, False] * 3)
    expected = F.binary_cross_entropy(head(features), ended.double(), reduction="none")
    torch.testing.assert_close(head.loss(features, ended), expected, rtol=1e-12, atol=1e-12)
