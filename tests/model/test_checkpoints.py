"""Checkpoints are read as they were written; broken ones, and weights of another kind, are named."""

from __future__ import annotations

import dataclasses
import json
import os
import stat

import pytest
import torch
from safetensors.torch import load_file, save_file

from lssvwm_rl.checked_text import write_checked
from lssvwm_rl.model.checkpoint_files import MODEL_CONFIG, WEIGHTS, resolve_checkpoint
from lssvwm_rl.model.checkpoint_tensors import save_tensors
from lssvwm_rl.model.checkpoints import earlier_fingerprint, fingerprint
from lssvwm_rl.model.config import TRAINING_FIELDS, WorldModelConfig
from lssvwm_rl.model.engine import make_engine
from lssvwm_rl.model.heads import symexp
from lssvwm_rl.model.world_model import WorldModel
from support.small_models import BACKBONE, random_clip, small_config, small_model


def test_save_and_load_give_the_same_model(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path / "run")
    loaded = WorldModel.from_pretrained(tmp_path / "run")
    assert loaded.config == model.config
    frames, actions, _ = random_clip(model)
    ours, theirs = (m.observe(m.initial_memory(2), frames, actions)[1].features for m in (model, loaded))
    assert torch.equal(ours, theirs)


@pytest.mark.skipif(os.name != "posix", reason="files have no such modes")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_who_may_read_weights_is_what_the_user_has_said(tmp_path, mask):
    before = os.umask(mask)
    try:
        save_tensors({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o666 & ~mask


def test_a_broken_checkpoint_is_named(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is not whole"):
        WorldModel.from_pretrained(tmp_path)


def test_weights_of_another_kind_are_named(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path)
    other = small_config(backbone=dataclasses.replace(BACKBONE, kind="window"))
    write_checked(tmp_path / "config.json", other.to_json())
    with pytest.raises(ValueError, match="not those of its config.json, of kind 'window' with 3 layers .*scan"):
        WorldModel.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'cudnn' does not exist; choose one of auto, torch, native, mamba"):
        WorldModel.from_pretrained("minigrid-memory", backend="cudnn")


def test_a_config_of_format_1_is_read_and_written_without_its_training_settings():
    text = (resolve_checkpoint("minigrid-memory") / MODEL_CONFIG).read_text()
    old = json.loads(text)
    assert old["format_version"] == 1 and {"readout_size", *TRAINING_FIELDS} <= set(old)
    config = WorldModelConfig.from_json(text)
    assert config.feature_size == old["readout_size"] and config.backbone.mlp_ratio == old["backbone"]["mlp_ratio"]
    new = json.loads(config.to_json())
    assert new["format_version"] == 2 and not {"readout_size", *TRAINING_FIELDS} & set(new)
    assert WorldModelConfig.from_json(config.to_json()) == config


def test_only_checkpoints_of_format_1_have_an_earlier_fingerprint(tmp_path):
    model = WorldModel.from_pretrained("minigrid-memory")
    model.save_pretrained(tmp_path)
    earlier = earlier_fingerprint("minigrid-memory")
    assert earlier is not None and earlier != fingerprint(model)
    assert earlier_fingerprint(tmp_path) is None
    assert fingerprint(WorldModel.from_pretrained(tmp_path)) == fingerprint(model)


@pytest.fixture
def earlier(tmp_path):
    """A model whose rewards do not know of ends, and its checkpoint as versions wrote it that had no such rewards."""
    model = small_model()
    torch.nn.init.zeros_(model.reward_head.ended)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / WEIGHTS)
    del weights["reward_head.ended"]
    save_file(weights, tmp_path / WEIGHTS)
    return model, tmp_path


@pytest.mark.filterwarnings("ignore:Engine .* cannot run here:RuntimeWarning")
@pytest.mark.parametrize("name", ["torch", "native", "native-bf16"])
def test_a_checkpoint_without_rewards_of_ends_says_what_it_said(earlier, name):
    model, loaded = earlier[0], WorldModel.from_pretrained(earlier[1])
    frames, actions, _ = random_clip(model)
    memory, prediction = loaded.observe(loaded.initial_memory(2), frames, actions)
    head = model.reward_head
    before = symexp((head.mlp(prediction.features).softmax(dim=-1) * head.bins).sum(dim=-1))
    assert torch.equal(prediction.reward, before) and before.std() > 0.1
    noise = [torch.Generator().manual_seed(i) for i in range(2)]
    step = make_engine(loaded, name).imagine(memory, actions[:, 0], noise)
    assert torch.equal(step.reward, step.rewards[:, 0]) and torch.equal(step.reward, step.rewards[:, 1])
    said = symexp((head.mlp(step.memory.features).softmax(dim=-1) * head.bins).sum(dim=-1))
    torch.testing.assert_close(step.reward, said, rtol=1e-4, atol=1e-4)


def test_but_for_that_all_weights_have_to_be_there(earlier):
    _, folder = earlier
    weights = load_file(folder / WEIGHTS)
    bias = weights.pop("continuation_head.mlp.0.bias")
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(ValueError, match="not those of its config.json"):
        WorldModel.from_pretrained(folder)
    save_file(
        {**weights, "continuation_head.mlp.0.bias": bias, "reward_head.ended": bias[:4].clone()}, folder / WEIGHTS
    )
    with pytest.raises(ValueError, match="not those of its config.json"):
        WorldModel.from_pretrained(folder)


def test_fingerprints_are_those_of_versions_without_rewards_of_ends(earlier):
    """States and policies name them."""
    shipped = WorldModel.from_pretrained("minigrid-memory")
    assert (fingerprint(shipped), fingerprint(shipped, exported=True)) == ("b84503791b6e7a17", "81d7e8482a493d1c")
    model, folder = earlier
    assert fingerprint(WorldModel.from_pretrained(folder)) == fingerprint(model)
    torch.nn.init.ones_(model.reward_head.ended)
    assert fingerprint(WorldModel.from_pretrained(folder)) != fingerprint(model)
