"""Checkpoints are read as they were written; broken ones, and weights of another kind, are named."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from lssvwm_rl.model.checkpoint_files import MODEL_CONFIG, resolve_checkpoint
from lssvwm_rl.model.checkpoints import earlier_fingerprint, fingerprint
from lssvwm_rl.model.config import TRAINING_FIELDS, WorldModelConfig
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
    (tmp_path / "config.json").write_text(other.to_json())
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
