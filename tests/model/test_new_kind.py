"""A new kind of backbone is one row of a table: this one scans the whole frame and attends to all past frames."""

from __future__ import annotations

import pytest
import torch

from lssvwm_rl import cli
from lssvwm_rl.model.backbone import match_depth
from lssvwm_rl.model.checkpoint_files import CONTEXTS, resolve_checkpoint
from lssvwm_rl.model.config import KINDS, Kind, attention_reach
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.objective import Objective, ObjectiveConfig
from support.small_models import random_batch, small_config, small_model


@pytest.fixture
def new_kind(monkeypatch) -> str:
    monkeypatch.setitem(KINDS, "ssm_causal", Kind("frame", "all"))
    return "ssm_causal"


def test_a_new_kind_trains_dreams_and_is_saved(new_kind, tmp_path):
    model = small_model(backbone=match_depth(small_config().backbone, new_kind, (4, 4)))
    assert attention_reach(model.config.backbone) is None
    batch = random_batch(model, [5, 5], 5)
    losses, after, _ = Objective(model, ObjectiveConfig())(batch, model.initial_memory(2), torch.Generator())
    losses["total"].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert after is not None and after.layers[0].state.shape[1] == 1 and after.layers[0].keys.shape[1] == 5
    step = model.imagine(after, torch.tensor([0, 1]), [torch.Generator().manual_seed(i) for i in range(2)])
    assert step.memory.frames.tolist() == [6, 6]
    model.save_pretrained(tmp_path)
    assert WorldModel.from_pretrained(tmp_path).config == model.config


def test_the_command_line_knows_a_new_kind(new_kind, tmp_path, capsys):
    words = ["train", "--data", str(resolve_checkpoint("minigrid-memory") / CONTEXTS), "--out", str(tmp_path / "run")]
    words += ["--steps", "1", "--batch-size", "2", "--span", "4", "--measure-every", "0", "--device", "cpu"]
    with pytest.raises(SystemExit):
        cli.main([*words, "--kind", "mamba"])
    assert f"'mamba' is unknown; use one of block_ssm, block1_ssm, ssm_local, ssm, window, causal, {new_kind}." in (
        capsys.readouterr().err
    )
    cli.main([*words, "--kind", new_kind])
    assert WorldModel.from_pretrained(tmp_path / "run").config.backbone.kind == new_kind
