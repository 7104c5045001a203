"""Heads that have settled know what can be known, and do not learn chance by heart; nothing else changes."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.model.engine import make_engine
from lssvwm_rl.model.predict import observe_batch, observe_episodes
from lssvwm_rl.training import settling
from lssvwm_rl.training.fit import fit_fixed
from lssvwm_rl.training.settling import settle_heads
from support.small_models import DISCRETE, SMALL_RESERVOIR, awake, small_model

NEVER, ALWAYS, BY_CHANCE = range(3)
RESERVOIR = replace(SMALL_RESERVOIR, reads=32, heads=4, head_size=16)
LOOKS = np.random.default_rng(1).integers(0, 256, (3, 4, 16, 16, 3), np.uint8)


def episode(kind: int, k: int) -> Episode:
    """Its kind shows in all frames but one; the third one, and whether chance pays, are its own."""
    rng = np.random.default_rng([kind, k])
    frames = LOOKS[kind].copy()
    frames[2] = rng.integers(0, 256, frames[2].shape)
    paid = {NEVER: False, ALWAYS: True, BY_CHANCE: bool(rng.integers(2))}[kind]
    return Episode(frames, np.array([0, 1, 2]), np.array([0, 0, float(paid)], np.float32), True, False)


@pytest.fixture
def fewer_updates(monkeypatch):
    monkeypatch.setattr(settling, "UPDATES", 300)
    monkeypatch.setattr(settling, "HALF", 150)


@pytest.fixture
def store(tmp_path) -> EpisodeStore:
    with EpisodeWriter(tmp_path / "store", StoreHeader((16, 16, 3), DISCRETE)) as writer:
        for k in range(120):
            writer.add(episode(k % 3, k))
    return EpisodeStore(tmp_path / "store")


def predicted(model, kind: int):
    """Of the steps of forty episodes that nobody has learnt from."""
    batch = clip_batch([episode(kind, 1_000 + k) for k in range(40)], 4)
    _, prediction = observe_batch(model, batch)
    return prediction.reward[:, 1:].detach(), prediction.terminated[:, 1:].detach()


def test_what_can_be_known_is_known_and_chance_is_not_learnt_by_heart(store, monkeypatch):
    def settled(drop: float):
        monkeypatch.setattr(settling, "DROP", drop)
        model = small_model(reservoir=RESERVOIR)
        fit_fixed(model, store, range(len(store)))
        settle_heads(model, store, list(range(len(store))), seed=0)
        return model

    model = settled(settling.DROP)
    for kind, least, most in ((NEVER, -0.1, 0.2), (ALWAYS, 0.8, 1.1)):
        reward, terminated = predicted(model, kind)
        assert least < reward[:, -1].min() and reward[:, -1].max() < most
        assert reward[:, :-1].abs().max() < 0.2
        assert terminated[:, -1].min() > 0.5 > terminated[:, :-1].max()
    unsure = {drop: predicted(settled(drop), BY_CHANCE)[0][:, -1] for drop in (0.0, 0.5)}
    assert unsure[0.5].std() < 0.8 * unsure[0.0].std()


def test_new_heads_have_to_be_as_good_as_the_old_ones(store, monkeypatch, fewer_updates):
    """On episodes that are held out: after one update new heads are worse, and the old ones stay."""
    model = small_model(reservoir=RESERVOIR)
    fit_fixed(model, store, range(len(store)))
    settle_heads(model, store, list(range(60)), seed=0)
    before = copy.deepcopy(model.state_dict())
    with monkeypatch.context() as patch:
        patch.setattr(settling, "UPDATES", 1)
        settle_heads(model, store, list(range(60)), seed=1, held_out=list(range(60, 120)))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    awake(model.reward_head, seed=9)
    before = copy.deepcopy(model.state_dict())
    settle_heads(model, store, list(range(60)), seed=1, held_out=list(range(60, 120)))
    assert any(not torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_heads_learn_to_read_dreams_as_long_as_they_are_right(store, monkeypatch):
    """An untrained model's dreams are never right, so it learns from them only if all are taken for right."""
    episodes = [episode(kind, 2_000 + k) for kind in (NEVER, ALWAYS) for k in range(20)]
    errors = {}
    for wrong_above in (-1.0, 1.0):
        monkeypatch.setattr(settling, "WRONG_ABOVE", wrong_above)
        model = small_model(reservoir=RESERVOIR)
        fit_fixed(model, store, range(len(store)))
        settle_heads(model, store, list(range(len(store))), seed=0)
        memory = observe_episodes(model, [each.cut(0, 3) for each in episodes])
        actions, noise = torch.full((40,), 2), [torch.Generator().manual_seed(i) for i in range(40)]
        reward = make_engine(model).imagine(memory, actions, noise).reward
        errors[wrong_above] = (reward - torch.tensor([0.0] * 20 + [1.0] * 20)).abs().mean().item()
    assert errors[1.0] < 0.6 * errors[-1.0], errors


def test_new_heads_know_nothing_of_what_the_old_ones_had_learnt_of_ends():
    one, other = (small_model(reservoir=SMALL_RESERVOIR) for _ in range(2))
    awake(one.reward_head, seed=7)
    for model in (one, other):
        settling._renew(model, seed=0)
    assert not one.reward_head.ended.any()
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


def test_nothing_but_heads_changes_and_the_same_seed_settles_alike(store, fewer_updates):
    one, other = (small_model(reservoir=SMALL_RESERVOIR) for _ in range(2))
    before = copy.deepcopy(one.state_dict())
    for model in (one, other):
        settle_heads(model, store, list(range(60)), seed=3)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
    changed = {name.split(".")[0] for name, value in one.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"reward_head", "continuation_head"}
    plain = small_model()  # its heads have not been rehearsed
    before = copy.deepcopy(plain.state_dict())
    settle_heads(plain, store, list(range(60)), seed=3)
    assert all(torch.equal(before[name], value) for name, value in plain.state_dict().items())
