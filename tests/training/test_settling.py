"""What cannot be known is the mean of what happened, once heads have settled; nothing else changes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.model.predict import observe_batch
from lssvwm_rl.training.settling import settle_heads
from support.small_models import DISCRETE, SMALL_RESERVOIR, small_model

WORTH = {0: 0.25, 1: 0.75, 2: 1.0}


@pytest.fixture
def store(tmp_path) -> EpisodeStore:
    """Three kinds of episodes that look different; of each, another share of 40 is paid for its last step."""
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 256, (3, 4, 16, 16, 3), np.uint8)
    with EpisodeWriter(tmp_path / "store", StoreHeader((16, 16, 3), DISCRETE)) as writer:
        for k in range(120):
            kind, paid = k % 3, k // 3 < 40 * WORTH[k % 3]
            rewards = np.array([0, 0, float(paid)], np.float32)
            writer.add(Episode(looks[kind], np.array([0, 1, 2]), rewards, True, False))
    return EpisodeStore(tmp_path / "store")


def predicted(model, store):
    batch = clip_batch([store[kind] for kind in WORTH], 4)
    _, prediction = observe_batch(model, batch)
    return prediction.reward[:, 1:].detach(), prediction.terminated[:, 1:].detach()


def test_heads_tell_how_often_what_cannot_be_known_happens(store):
    model = small_model(reservoir=SMALL_RESERVOIR)
    before = copy.deepcopy(model.state_dict())
    episodes = list(range(len(store)))
    for _ in range(3):  # random weights begin far away, a trained head does not
        settle_heads(model, store, episodes, seed=0)
    reward, terminated = predicted(model, store)
    # Two-hot targets of 0 and 1 make the expected reward that of their shares in symlog units.
    expected = torch.tensor([np.expm1(np.log(2) * share) for share in WORTH.values()])
    torch.testing.assert_close(reward[:, -1].double(), expected, atol=0.08, rtol=0)
    assert reward[:, :-1].abs().max() < 0.1
    assert terminated[:, -1].min() > 0.9 and terminated[:, :-1].max() < 0.1
    after = model.state_dict()
    changed = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"reward_head", "continuation_head"}


def test_the_same_seed_settles_alike_and_models_without_a_reservoir_stay(store):
    one, other = (small_model(reservoir=SMALL_RESERVOIR) for _ in range(2))
    for model in (one, other):
        settle_heads(model, store, list(range(60)), seed=3)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
    plain = small_model()
    before = copy.deepcopy(plain.state_dict())
    settle_heads(plain, store, list(range(60)), seed=3)
    assert all(torch.equal(before[name], value) for name, value in plain.state_dict().items())
