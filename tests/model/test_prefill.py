"""One function for clips and steps: frames observed at once or one by one leave the same memory."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from lssvwm_rl.model.memory import Memory
from support.small_models import (
    BACKBONE,
    CLOSE,
    LAYOUTS,
    assert_memories_close,
    double_model,
    random_batch,
    random_clip,
    small_model,
)


@pytest.mark.parametrize("vector_size", [0, 3])
@pytest.mark.parametrize(("kind", "blocks"), LAYOUTS)
def test_prefill_equals_single_commits(kind, blocks, vector_size):
    backbone = dataclasses.replace(BACKBONE, kind=kind, blocks=blocks)
    model = double_model(backbone=backbone, vector_size=vector_size)
    frames, actions, vectors = random_clip(model)
    memory, whole = model.observe(model.initial_memory(2), frames, actions, vectors)
    step_memory = model.initial_memory(2)
    for t in range(frames.shape[1]):
        one = slice(t, t + 1)
        vector = None if vectors is None else vectors[:, one]
        step_memory, step = model.observe(step_memory, frames[:, one], actions[:, one], vector)
        torch.testing.assert_close(step.features[:, 0], whole.features[:, t], **CLOSE)
        torch.testing.assert_close(step.reward[:, 0], whole.reward[:, t], **CLOSE)
    assert_memories_close(memory, step_memory, **CLOSE)
    assert memory.frames.tolist() == [7, 7]


def test_missing_vectors_are_predicted_one_frame_at_a_time():
    model = small_model(vector_size=2)
    frames, actions, _ = random_clip(model, frames=4)
    whole, _ = model.observe(model.initial_memory(2), frames, actions)
    memory = model.initial_memory(2)
    for t in range(4):
        memory, _ = model.observe(memory, frames[:, t : t + 1], actions[:, t : t + 1])
    assert_memories_close(whole, memory, rtol=0, atol=0)


def test_rows_of_unlike_age_share_a_growing_cache():
    model = double_model(backbone=dataclasses.replace(BACKBONE, kind="causal"))
    frames, actions, _ = random_clip(model, frames=6)
    old, _ = model.observe(model.initial_memory(1), frames[:1], actions[:1])
    young, _ = model.observe(model.initial_memory(1), frames[1:, :2], actions[1:, :2])
    both = Memory.concatenate([old, young])
    chosen = both.where(torch.tensor([False, True]), model.initial_memory(2))
    assert chosen.frames.tolist() == [0, 2]
    following = random_batch(model, [1, 1], 1, seed=5)
    together = model.observe(both, following.frames, following.actions)[1].features
    alone = model.observe(young, following.frames[1:], following.actions[1:])[1].features
    begun = model.observe(chosen, following.frames, following.actions)
    torch.testing.assert_close(together[1:], alone, **CLOSE)
    torch.testing.assert_close(begun[1].features[1:], alone, **CLOSE)
    assert begun[0].layers[0].keys.shape[1] == 3, "no longer than the oldest row needs"
