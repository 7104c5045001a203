"""ONNX graphs compute what PyTorch does, for every kind and action space, and are not kept if they do not."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from gymnasium.error import DependencyNotInstalled

from lssvwm_rl.cli import main
from lssvwm_rl.model import onnx_export
from lssvwm_rl.model.checkpoint_files import CONTEXTS
from lssvwm_rl.model.checkpoints import load_world_model
from lssvwm_rl.model.config import KINDS
from lssvwm_rl.model.fast_weights import FastWeightsConfig
from lssvwm_rl.model.onnx_export import ABOUT, CONTEXT, MEMORY, SHOWN, compare, export_onnx
from lssvwm_rl.model.onnx_graphs import graphs
from lssvwm_rl.model.passes import Inputs, commit
from lssvwm_rl.model.prepared import prepare
from support.small_checkpoints import save_checkpoint
from support.small_models import (
    BACKBONE,
    CLOSE,
    SMALL_RESERVOIR,
    assert_memories_close,
    double_model,
    random_batch,
    untrained_checkpoint,
)

RECOLLECTION = {"reservoir": SMALL_RESERVOIR, "fast_weights": FastWeightsConfig(size=8, values=4), "vector_size": 2}
NO_CAUSAL = [kind for kind in KINDS if kind != "causal"]


@pytest.mark.parametrize("changes", [*({"backbone": replace(BACKBONE, kind=kind)} for kind in NO_CAUSAL),
    RECOLLECTION, {"frame_shape": (14, 15, 3)}], ids=[*NO_CAUSAL, "recollection", "padded"])  # fmt: skip
def test_a_real_frame_is_committed_as_the_model_does(changes):
    """In fp64, by the passes of which the graph is made."""
    model, rows, frames = double_model(**changes), 3, 4
    batch, weights = random_batch(model, [frames] * rows, frames), prepare(model, 1)
    memory = model.initial_memory(rows)
    for t in range(frames):
        vector = None if batch.vectors is None else batch.vectors[:, t]
        action, frame = batch.actions[:, t], batch.frames[:, t]
        now = slice(t, t + 1)
        vectors = None if batch.vectors is None else batch.vectors[:, now]
        after, said = model.observe(memory, batch.frames[:, now], batch.actions[:, now], vectors)
        inputs = Inputs(
            memory.layers, memory.frames, torch.empty(0), *weights.modulation(memory, action, vector),
            weights.following(memory, action, vector), weights.places(vector), memory.reservoir, memory.fast_weights,
        )  # fmt: skip
        found = commit(weights, inputs, frame)
        torch.testing.assert_close(found.rewards, said.rewards[:, 0], **CLOSE)
        torch.testing.assert_close(found.terminated, said.terminated[:, 0], **CLOSE)
        changed = replace(after, layers=found.layers, features=found.features)
        assert_memories_close(
            replace(changed, reservoir=found.reservoir, fast_weights=found.fast_weights), after, **CLOSE
        )
        assert torch.equal(found.doubt, torch.zeros_like(found.doubt))
        memory = after


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ssm", "window"])
def test_graphs_of_kinds_are_those_of_the_model(kind, tmp_path, capsys):
    """`ssm` has no window, `window` no states: what is empty is no input. A model without episodes has no context."""
    untrained_checkpoint(tmp_path / "run", backbone=replace(BACKBONE, kind=kind, blocks=(2,)))
    if kind == "ssm":
        shutil.rmtree(tmp_path / "run" / CONTEXTS)
    out = tmp_path / "onnx"
    words = ["--format", "onnx", "--denoise-steps", "2", "--batch-size", "2", "--out", str(out)]
    main(["export", "--checkpoint", str(tmp_path / "run"), *words])
    line = capsys.readouterr().out.splitlines()[-1]
    assert f"written to {out}, at most" in line and "grey levels and" in line and line.endswith("lssvwm.json says.")
    about, memory = json.loads((out / ABOUT).read_text()), np.load(out / MEMORY)
    assert about["differences"]["grey_levels"] <= 1 and about["differences"]["relative"] < 1e-4
    assert sorted(memory.files) == sorted(about["memory"])
    assert (out / CONTEXT).exists() == (kind != "ssm")
    assert ("states.0" in memory.files, "keys.0" in memory.files) == (kind != "window", kind != "ssm")
    for name, graph in about["graphs"].items():
        session = onnxruntime.InferenceSession(out / graph["file"])
        shapes = {value.name: value.shape for value in session.get_inputs()}
        assert shapes == {n: about["inputs"][n]["shape"] for n in about["graphs"][name]["inputs"]}
        assert [value.name for value in session.get_outputs()] == graph["outputs"]
        assert {shape[0] for shape in shapes.values()} == {2}


@pytest.mark.slow
@pytest.mark.parametrize("world", ["multi_discrete", "box"])
def test_graphs_of_action_spaces_are_those_of_the_model(world, tmp_path):
    save_checkpoint(tmp_path / "run", world)
    found = export_onnx(tmp_path / "run", tmp_path / "onnx", denoise_steps=1)
    assert found.grey_levels <= 1 and found.relative < 1e-4


@pytest.mark.slow
def test_vectors_of_dreamt_frames_come_out_and_those_of_real_ones_go_in(onnx_folder):
    parts = json.loads((onnx_folder / ABOUT).read_text())["graphs"]
    assert "vector" in parts["step"]["outputs"] and "vector" not in parts["step"]["inputs"]
    assert "vector" in parts["commit"]["inputs"] and "vector" not in parts["commit"]["outputs"]
    context = np.load(onnx_folder / CONTEXT)
    assert {name: context[name].shape for name in context.files} == {
        "frames": (SHOWN, 32, 32, 3), "actions": (SHOWN,), "vectors": (SHOWN, 4),
    }  # fmt: skip


@pytest.mark.slow
def test_the_difference_of_other_weights_is_found(onnx_folder):
    model = load_world_model("maze-memory").requires_grad_(False)
    context = dict(np.load(onnx_folder / CONTEXT))
    same = compare(model, graphs(model, 1, 1), onnx_folder, context, 1, 1)
    assert same.grey_levels <= 1 and same.relative < 1e-4
    model.token_features.weight.mul_(1.5)
    other = compare(model, graphs(model, 1, 1), onnx_folder, context, 1, 1)
    assert other.relative > 1e-2 and other.where


@pytest.mark.slow
def test_graphs_that_differ_are_not_kept(tmp_path, monkeypatch):
    untrained_checkpoint(tmp_path / "run", backbone=replace(BACKBONE, blocks=(2,)))
    monkeypatch.setattr(onnx_export, "GREY_LEVELS", -1)
    with pytest.raises(ValueError, match=r"differs from PyTorch by .* nothing was written"):
        export_onnx(tmp_path / "run", tmp_path / "onnx", denoise_steps=1)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--format", "onnx", "--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["--format", "onnx", "--denoise-steps", "0"], "denoise_steps must be at least 1, got 0"),
        (["--batch-size", "2"], "--batch-size 2 is of ONNX graphs; leave it out, or add --format onnx."),
        (["--format", "onnx", "--kind"], "memory grows with every frame, and ONNX graphs are of fixed shapes"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(words, text, tmp_path, capsys):
    kind = "causal" if words[-1] == "--kind" else "block_ssm"
    words = [word for word in words if word != "--kind"]
    untrained_checkpoint(tmp_path / "run", backbone=replace(BACKBONE, kind=kind, blocks=(2,)))
    with pytest.raises(SystemExit):
        main(["export", "--checkpoint", str(tmp_path / "run"), "--out", str(tmp_path / "out"), *words])
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_without_its_packages_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DependencyNotInstalled, match=r"need onnxruntime; install with `pip install lssvwm-rl\[onnx\]`"):
        export_onnx("minigrid-memory", tmp_path / "out")
