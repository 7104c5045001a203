"""Rehearsal teaches heads a product of two things that were seen, without bias, and goes on where it was."""

from __future__ import annotations

import torch

from lssvwm_rl.model.heads import ContinuationHead, Focus, RewardHead
from lssvwm_rl.training.rehearsal import Readings, Rehearsal


def readings(seed: int, count: int = 400) -> Readings:
    """One frame in ten decides: its reward is whether two weak features agree, which are drowned by strong others."""
    g = torch.Generator().manual_seed(seed)
    features = 0.5 * torch.randn(count, 12, generator=g)
    bits = torch.randint(0, 2, (count, 2), generator=g) * 2.0 - 1
    decides = torch.rand(count, generator=g) < 0.1
    features[:, :2] = torch.where(decides[:, None], 0.05 * bits, features[:, :2])
    features[decides, 2:] = 0.3
    rewards = (decides & (bits[:, 0] == bits[:, 1])).float()
    return Readings(features, rewards, decides, torch.ones(count))


def heads() -> tuple[RewardHead, ContinuationHead]:
    torch.manual_seed(0)
    return RewardHead(12, 64, focus=True), ContinuationHead(12, 64, focus=True)


def teach(updates: int, per_batch: int) -> float:
    """Accuracy of the reward on new frames that decide."""
    reward, continuation = heads()
    rehearsal, generator = Rehearsal(reward, continuation, per_batch), torch.Generator().manual_seed(0)
    for i in range(updates):
        batch = readings(i)
        losses = reward.loss(batch.features, batch.rewards, batch.terminated).detach()
        reward.focus.look(batch.features, losses)
        rehearsal.go(batch._replace(losses=losses), 1.0, generator)
    test = readings(10_000, 4_000)
    said = reward.both(test.features[test.terminated])[:, 1] > 0.3
    return (said == (test.rewards[test.terminated] > 0)).float().mean().item()


def test_a_product_is_learnt_with_more_looks_at_what_decides():
    assert teach(120, 8) > 0.9 > 0.8 > teach(120, 1)


def test_draws_by_loss_do_not_bias_what_is_learnt():
    """The mean of a reward that no feature tells is learnt as it is, however large the losses of its rare ones."""
    reward, continuation = heads()
    rehearsal, generator = Rehearsal(reward, continuation, 20), torch.Generator().manual_seed(0)
    g = torch.Generator().manual_seed(1)
    features = torch.zeros(1_000, 12)
    for _ in range(40):
        rewards = (torch.rand(1_000, generator=g) < 0.2).float()
        losses = reward.loss(features, rewards, rewards > 2).detach()
        losses += continuation.loss(features, rewards > 2).detach()
        rehearsal.go(Readings(features, rewards, rewards > 2, losses), 1.0, generator)
    # symexp of the mean of symlog rewards, as two-hot targets mean it.
    assert abs(reward(features[:1], torch.zeros(1)).item() - (2**0.2 - 1)) < 0.04


def test_it_goes_on_where_it_was():
    def run(resumed: bool) -> list[torch.Tensor]:
        pair = heads()
        rehearsal, generator = Rehearsal(*pair), torch.Generator()
        for i in range(4):
            if resumed and i == 2:
                other = heads()
                for old, new in zip(pair, other, strict=True):
                    new.load_state_dict(old.state_dict())
                state, pair = rehearsal.state_dict(), other
                rehearsal = Rehearsal(*pair)
                rehearsal.load_state_dict(state)
            rehearsal.go(readings(i), 1.0, generator.manual_seed(i))
        return [p.detach() for head in pair for p in head.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(run(False), run(True), strict=True))


def test_the_first_layer_says_the_same_without_the_focus():
    reward, _ = heads()
    assert isinstance(reward.focus, Focus)
    reward.focus.look(readings(0).features, torch.rand(400, generator=torch.Generator().manual_seed(2)))
    weight, bias = reward.first_layer()
    features = readings(1).features
    torch.testing.assert_close(features @ weight.T + bias, reward.mlp[0](reward.focus(features)), rtol=1e-4, atol=1e-4)
