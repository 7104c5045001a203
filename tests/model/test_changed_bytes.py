"""A changed byte in a checkpoint or a memory is named, and never other numbers; files of before are read."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from lssvwm_rl.model.checkpoint_files import WEIGHTS
from lssvwm_rl.model.checkpoint_tensors import CHECKSUM, check_finite, load_tensors, save_tensors
from lssvwm_rl.model.checkpoints import load_world_model
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel
from support.changed_bytes import one_bit_changed
from support.small_models import random_clip, small_model

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).reshape(2, 3).T,
    "b": torch.ones(3, dtype=torch.bfloat16),
    "none": torch.zeros(0, 4),
    "one": torch.tensor(7),
    "yes": torch.tensor([True, False]),
}


def same(found: dict, wanted: dict) -> bool:
    return set(found) == set(wanted) and all(
        found[k].dtype == wanted[k].dtype and torch.equal(found[k], wanted[k]) for k in found
    )


def test_tensors_and_metadata_come_back(tmp_path):
    save_tensors(TENSORS, tmp_path / "x", {"about": "y"})
    tensors, metadata = load_tensors(tmp_path / "x")
    assert same(tensors, TENSORS) and metadata == {"about": "y"}
    assert same(load_file(tmp_path / "x"), TENSORS), "anyone can read it"
    save_file({"b": TENSORS["b"]}, tmp_path / "old", {"about": "z"})
    tensors, metadata = load_tensors(tmp_path / "old")
    assert same(tensors, {"b": TENSORS["b"]}) and metadata == {"about": "z"}


def test_every_changed_byte_is_an_error_or_changes_no_number(tmp_path):
    save_tensors(TENSORS, tmp_path / "x", {"about": "y"})
    size, refused = (tmp_path / "x").stat().st_size, 0
    for _ in one_bit_changed(tmp_path / "x", 0, first=size):
        try:
            assert same(load_tensors(tmp_path / "x")[0], TENSORS)
        except Exception as error:
            assert type(error).__name__ in ("ValueError", "SafetensorError", "OSError")
            refused += 1
    assert refused > 0.9 * size
    assert same(load_tensors(tmp_path / "x")[0], TENSORS)


def test_a_changed_weight_is_named(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path)
    start = int.from_bytes((tmp_path / WEIGHTS).read_bytes()[:8], "little") + 8
    for at in one_bit_changed(tmp_path / WEIGHTS, 20):
        if at >= start:
            with pytest.raises(ValueError, match=rf"{WEIGHTS} has changed .* {CHECKSUM} is another\); train or down"):
                WorldModel.from_pretrained(tmp_path)
    assert same(WorldModel.from_pretrained(tmp_path).state_dict(), model.state_dict())
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"Checkpoint {tmp_path} is not whole \({WEIGHTS}: "):
        WorldModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "not finite"), (float("inf"), "not finite")])
def test_weights_that_are_not_finite_are_named(tmp_path, value, said):
    model = small_model()
    with torch.no_grad():
        model.get_parameter("patch_in.weight")[0, 0] = value
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"patch_in.weight holds numbers that are {said}"):
        WorldModel.from_pretrained(tmp_path)


def test_weights_of_another_kind_of_number_are_named(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / WEIGHTS)
    save_file({**weights, "patch_in.weight": weights["patch_in.weight"].long()}, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=r"patch_in.weight is torch.int64, not torch.float32"):
        WorldModel.from_pretrained(tmp_path)
    save_file({k: t.half() if t.is_floating_point() else t for k, t in weights.items()}, tmp_path / WEIGHTS)
    WorldModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["maze-memory", "minigrid-loop", "minigrid-memory"])
def test_packaged_checkpoints_are_finite(name):
    check_finite(load_world_model(name).state_dict())


def test_a_changed_memory_is_named(tmp_path):
    model = small_model()
    frames, actions, _ = random_clip(model)
    memory, _ = model.observe(model.initial_memory(2), frames, actions)
    memory = memory.detach()
    path = tmp_path / "memory.safetensors"
    memory.save(path)
    assert same(Memory.load(path).tensors(), memory.tensors())
    refused = 0
    for _ in one_bit_changed(path, 60):
        try:
            assert same(Memory.load(path).tensors(), memory.tensors())
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 50
    save_file({name: t.contiguous() for name, t in memory.tensors().items()}, path)
    assert same(Memory.load(path).tensors(), memory.tensors()), "of earlier versions"
    broken = {**memory.tensors(), "features": torch.full_like(memory.features, float("nan"))}
    Memory.from_tensors(broken).save(path)
    with pytest.raises(ValueError, match="features holds numbers that are not finite"):
        Memory.load(path)
