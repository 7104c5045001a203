"""Rewards of every size are coded, learnt and dreamt in their own units; a scale is kept where it suits."""

from __future__ import annotations

import dataclasses
import json

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_rl.checked_text import write_checked
from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.model.checkpoints import fingerprint
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.engine import make_engine
from lssvwm_rl.model.heads import BINS, LIMIT, RewardHead, symexp, symlog, two_hot
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training import trainer
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.reward_scale import rewards_of, suited_scale
from lssvwm_rl.training.trainer import train
from support.small_models import DISCRETE, random_clip, small_config, small_model

CONFIG = TrainConfig(
    batch_size=4, span=8, steps=150, learning_rate=1e-2, warmup=2, log_every=50, preview_every=0, device="cpu"
)
FRAMES = np.full((9, 16, 16, 3), 200, np.uint8)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(trainer, "gemm_rate", lambda device: 1e9)


def paying(folder, reward: float, episodes: int = 4) -> EpisodeStore:
    with EpisodeWriter(folder, StoreHeader((16, 16, 3), DISCRETE)) as writer:
        for _ in range(episodes):
            rewards = np.full(8, reward, np.float32)
            writer.add(Episode(FRAMES, np.arange(8) % 4, rewards, terminated=False, truncated=True))
    return EpisodeStore(folder)


@settings(deadline=None)
@given(st.integers(-30, 30), st.lists(st.floats(-1, 1, width=32, allow_subnormal=False), min_size=1, max_size=20))
def test_a_scale_suits_the_rewards_it_was_learnt_from(exponent, shares):
    rewards = 10.0**exponent * np.array(shares)
    scale = suited_scale(rewards)
    assert np.log2(scale) == round(np.log2(scale)) and suited_scale(rewards, scale) == scale
    units = rewards / scale
    assert np.abs(units).max() <= 100
    if np.any(rewards):
        sizes = np.abs(units[units != 0])
        assert np.percentile(sizes, 95) >= 0.1 or sizes.max() > 49, "unless others are hundreds of times as large"


@pytest.mark.parametrize("rewards", [[0, 0], [], [0, 1, 0.9, -1], [-16.0, -3.0], [0.1, 0.2], [100.0], [0.5, -99]])
def test_rewards_of_usual_sizes_keep_the_scale(rewards):
    assert suited_scale(np.array(rewards, np.float32)) == 1


@pytest.mark.parametrize("reward", [1e-30, 1e-3, 0.02, 147.0, 1000.0, 1e5, 3e38])
def test_coded_rewards_come_back(reward):
    scale = suited_scale(np.array([reward]))
    for share in (-1.0, -0.3, 0.01, 1.0):
        code = two_hot(symlog(torch.tensor(share * reward / scale, dtype=torch.float64)), LIMIT, BINS)
        mean = code @ torch.linspace(-LIMIT, LIMIT, BINS, dtype=torch.float64)
        assert scale * symexp(mean).item() == pytest.approx(share * reward, rel=1e-10)
    head = RewardHead(2, 4, scale=scale).double()
    with torch.no_grad():  # the logits of that code
        head.mlp[2].bias.copy_((code + 1e-300).log())
    assert head(torch.zeros(2, dtype=torch.float64), torch.tensor(0.0)).item() == pytest.approx(reward, rel=1e-6)
    loss = head.loss(torch.zeros(2, dtype=torch.float64), torch.tensor(reward, dtype=torch.float64), torch.tensor(0.0))
    assert loss.item() == pytest.approx(-(code * (code + 1e-300).log()).sum().item())


def test_what_is_no_number_has_no_code():
    assert two_hot(torch.tensor(float("nan")), LIMIT, BINS).isnan().any()


@pytest.mark.parametrize("reward", [1e-3, 1000.0, -1e5])
def test_a_model_says_and_dreams_what_it_was_paid(tmp_path, reward):
    run = train(paying(tmp_path / "data", reward), tmp_path / "run", small_config(), None, CONFIG)
    model = WorldModel.from_pretrained(run)
    scale = model.config.reward_scale
    assert scale == suited_scale(np.array([reward])) != 1
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["reward_scale"] == scale
    frames, actions = torch.from_numpy(FRAMES[None]), torch.tensor([[0, *(t % 4 for t in range(8))]])
    memory, prediction = model.observe(model.initial_memory(1), frames, actions)
    assert prediction.reward[0, 1:].numpy() == pytest.approx(np.full(8, reward), rel=0.05)
    env = gym.make("lssvwm/Dream-v0", checkpoint=str(run))
    env.reset(seed=0)
    assert env.step(1)[1] == pytest.approx(reward, rel=0.05)


@pytest.mark.filterwarnings("ignore:Engine .* cannot run here:RuntimeWarning")
@pytest.mark.parametrize("name", ["torch", "native"])
def test_engines_have_the_scale(name):
    one, large = small_model(), small_model(reward_scale=1024.0)
    frames, actions, _ = random_clip(one)
    said = []
    for model in (one, large):
        memory, _ = model.observe(model.initial_memory(2), frames, actions)
        noise = [torch.Generator().manual_seed(i) for i in range(2)]
        said.append(make_engine(model, name).imagine(memory, actions[:, 0], noise).rewards)
    assert torch.equal(said[1], 1024 * said[0]) and said[0].abs().min() > 0


def test_configs_of_before_and_bad_scales():
    config = small_config()
    assert "reward_scale" not in json.loads(config.to_json()), "so that fingerprints stay"
    scaled = dataclasses.replace(config, reward_scale=8.0)
    assert WorldModelConfig.from_json(scaled.to_json()) == scaled
    assert WorldModelConfig.from_json(config.to_json()).reward_scale == 1
    assert fingerprint(WorldModel(scaled)) != fingerprint(WorldModel(config))
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="reward_scale must be positive and finite"):
            dataclasses.replace(config, reward_scale=scale)


def test_a_run_keeps_its_scale_and_weights_bring_theirs_if_it_suits(tmp_path):
    short = dataclasses.replace(CONFIG, steps=2)
    first = train(paying(tmp_path / "a", 1000.0), tmp_path / "first", small_config(), None, short)
    scale = WorldModel.from_pretrained(first).config.reward_scale
    train(EpisodeStore(tmp_path / "a"), first, small_config(), None, dataclasses.replace(CONFIG, steps=3))
    assert WorldModel.from_pretrained(first).config.reward_scale == scale
    like = train(paying(tmp_path / "b", 200.0), tmp_path / "like", small_config(), None, short, weights=first)
    assert WorldModel.from_pretrained(like).config.reward_scale == scale, "200 are not too few units of it"
    with pytest.warns(RuntimeWarning, match=r"go up to 1e\+07.* in units of 1024; the reward head begins anew, in un"):
        other = train(paying(tmp_path / "c", 1e7), tmp_path / "other", small_config(), None, short, weights=first)
    model = WorldModel.from_pretrained(other)
    assert model.config.reward_scale == suited_scale(np.array([1e7]))
    # One update moves a weight by about the learning rate.
    assert model.get_parameter("reward_head.mlp.2.weight").abs().max() < 3 * CONFIG.learning_rate
    train(
        EpisodeStore(tmp_path / "c"), other, small_config(), None, dataclasses.replace(CONFIG, steps=3), weights=first
    )
    config = yaml.safe_load((first / "config.yaml").read_text())
    del config["model"]["reward_scale"]  # as a run of before, which had 1 and goes on with it
    write_checked(first / "config.yaml", yaml.safe_dump(config))
    train(EpisodeStore(tmp_path / "a"), first, small_config(), None, dataclasses.replace(CONFIG, steps=4))
    assert WorldModel.from_pretrained(first).config.reward_scale == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_rewards_that_are_not_finite_are_named(tmp_path, value, monkeypatch):
    store = paying(tmp_path / "data", 1.0)
    rewards = store.rewards()
    rewards[11] = value
    monkeypatch.setattr(store, "rewards", lambda: rewards)
    with pytest.raises(ValueError, match="reward of step 3 in episode 1 of .* is (nan|-?inf); collect"):
        rewards_of(store)


def test_a_store_gives_its_rewards_without_frames(tmp_path):
    store = paying(tmp_path / "data", 2.0, episodes=3)
    assert store.rewards().tolist() == [2.0] * 24 and store.first(2).rewards().tolist() == [2.0] * 16
