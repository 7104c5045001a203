"""Checkpoints are read as they were written; broken ones, and weights of another kind, are named."""

from __future__ import annotations

import dataclasses

import pytest
import torch

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
    with pytest.raises(ValueError, match="'cudnn' does not exist; choose one of auto, torch, mamba"):
        WorldModel.from_pretrained("minigrid-memory", backend="cudnn")
