"""Memory is a value: rows are picked, joined and saved without a bit changed, and broken files are named."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel
from support.small_models import BACKBONE, CLOSE, double_model, random_batch, small_model

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


@functools.cache
def model_of(kind: str) -> WorldModel:
    return double_model(backbone=dataclasses.replace(BACKBONE, kind=kind))


@functools.cache
def after(kind: str, rows: int, frames: int) -> Memory:
    batch = random_batch(model_of(kind), [frames] * rows, frames, seed=10 * rows + frames)
    return model_of(kind).observe(model_of(kind).initial_memory(rows), batch.frames, batch.actions)[0]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["block_ssm", "window", "causal"]),
    rows=st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=ROWS, unique=True),
    ours=st.integers(1, 4),
    theirs=st.integers(1, 4),
)
def test_put_replaces_the_named_rows_in_their_order(kind, rows, ours, theirs):
    whole, other = after(kind, ROWS, ours), after(kind, len(rows), theirs)
    before = whole.clone(), other.clone()
    result = whole.put(torch.tensor(rows), other)
    assert same(whole, before[0]) and same(other, before[1])
    for name, tensor in result.tensors().items():
        assert len(tensor) == ROWS
        for i in range(ROWS):
            wanted = other.tensors()[name][rows.index(i)] if i in rows else whole.tensors()[name][i]
            if kind == "causal" and name.startswith(("keys.", "values.")):  # as long as the longest, newest last
                assert tensor.shape[1] == max(ours, theirs)
                wanted = torch.cat([wanted.new_zeros(max(ours, theirs) - len(wanted), *wanted.shape[1:]), wanted])
            assert torch.equal(tensor[i], wanted), (name, i)
    # What matters in the end: every row goes on as it would have where it comes from.
    model, batch = model_of(kind), random_batch(model_of(kind), [1] * ROWS, 1)
    features = model.observe(result, batch.frames, batch.actions)[0].features
    for i in range(ROWS):
        source = row(other, rows.index(i)) if i in rows else row(whole, i)
        alone = model.observe(source, batch.frames[i : i + 1], batch.actions[i : i + 1])[0].features
        torch.testing.assert_close(features[i : i + 1], alone, **CLOSE)


@pytest.mark.parametrize("kind", ["block_ssm", "window", "causal"])
@pytest.mark.parametrize(("ours", "theirs"), [(1, 3), (3, 1), (2, 2)])
def test_overwriting_a_row_is_put_in_place(kind, ours, theirs):
    whole, other = after(kind, ROWS, ours).clone(), after(kind, 1, theirs)
    wanted, before = whole.put(torch.tensor([2]), other), other.clone()
    result = whole.overwrite(2, other)
    assert same(result, wanted) and same(other, before)
    grown = kind == "causal" and theirs > ours
    for name, tensor in result.tensors().items():
        again = tensor.data_ptr() == whole.tensors()[name].data_ptr()
        assert again or (grown and name.startswith(("keys.", "values.")))


def test_a_memory_cannot_be_changed_and_a_clone_shares_nothing():
    whole = memory()
    with pytest.raises(dataclasses.FrozenInstanceError):
        whole.features = torch.zeros(1)
    clone = whole.clone()
    clone.layers[0].state.zero_()
    assert not same(whole, clone) and same(whole, memory())


def test_what_is_saved_is_read(tmp_path):
    whole = memory()
    whole.save(tmp_path / "memory.safetensors")
    assert same(Memory.load(tmp_path / "memory.safetensors"), whole)
    assert whole.nbytes == sum(t.numel() * t.element_size() for t in whole.tensors().values())


def test_block_norms_are_those_of_each_block():
    whole = after("block_ssm", ROWS, 3)
    for norms, (state, *_) in zip(whole.block_norms(), whole.layers, strict=True):
        assert norms.shape == state.shape[:2]
        assert norms[1, 0].item() == pytest.approx(state[1, 0].square().sum().sqrt().item(), rel=1e-12)


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
