"""Memory is a value: rows are picked, joined and saved without a bit changed, and broken files are named."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import random_batch, small_model

from lssvwm_rl.memory import Memory

ROWS = 4


def memory(seed: int = 0) -> Memory:
    model = small_model()
    batch = random_batch(model, [5] * ROWS, 5, seed)
    return model.observe(model.initial_memory(ROWS), batch.frames, batch.actions)[0]


def same(a: Memory, b: Memory) -> bool:
    left, right = a.tensors(), b.tensors()
    return left.keys() == right.keys() and all(torch.equal(t, right[n]) for n, t in left.items())


def row(m: Memory, i: int) -> Memory:
    return m.select(torch.tensor([i]))


@settings(max_examples=20, deadline=None)
@given(indices=st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=6))
def test_selected_rows_are_the_rows(indices):
    whole = memory()
    joined = Memory.concatenate([row(whole, i) for i in indices])
    assert same(whole.select(torch.tensor(indices)), joined)
    assert joined.batch_size == len(indices)


def test_repeat_keeps_copies_side_by_side_and_where_chooses_by_row():
    a, b = memory(0), memory(1)
    assert same(a.repeat(2), a.select(torch.arange(ROWS).repeat_interleave(2)))
    mask = torch.tensor([True, False, False, True])
    mixed = a.where(mask, b)
    for i, mine in enumerate(mask.tolist()):
        assert same(row(mixed, i), row(a if mine else b, i))


def test_a_memory_cannot_be_changed_and_a_clone_shares_nothing():
    whole = memory()
    with pytest.raises(dataclasses.FrozenInstanceError):
        whole.features = torch.zeros(1)
    clone = whole.clone()
    clone.states[0].zero_()
    assert not same(whole, clone) and same(whole, memory())


def test_what_is_saved_is_read(tmp_path):
    whole = memory()
    whole.save(tmp_path / "memory.safetensors")
    assert same(Memory.load(tmp_path / "memory.safetensors"), whole)
    assert whole.nbytes == sum(t.numel() * t.element_size() for t in whole.tensors().values())


def test_block_norms_are_those_of_each_block():
    whole = memory()
    for norms, state in zip(whole.block_norms(), whole.states, strict=True):
        assert norms.shape == state.shape[:2]
        assert norms[1, 0].item() == pytest.approx(state[1, 0].square().sum().sqrt().item(), rel=1e-5)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_cut_file_is_named(tmp_path, kept):
    path = tmp_path / "memory.safetensors"
    memory().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match="memory.safetensors is not a whole"):
        Memory.load(path)


def test_what_is_no_memory_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="Memory.save"):
        Memory.load(tmp_path / "none")
    tensors = memory().tensors()
    del tensors["frames"]
    with pytest.raises(ValueError, match="'frames' is missing"):
        Memory.from_tensors(tensors)
