"""A dream state with a changed byte is refused; those of earlier versions are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.state import DreamState
from support.changed_bytes import one_bit_changed
from support.programs import bits
from support.small_checkpoints import save_checkpoint


def value(state: DreamState):
    plain = (state.model, state.steps, state.ended, state.np_random)
    return bits([state.memory.tensors(), state.frame, state.noise, list(map(str, plain))])


@pytest.fixture
def saved(tmp_path):
    with DreamEnv(save_checkpoint(tmp_path / "model", "discrete"), horizon=9) as env:
        env.reset(seed=3)
        env.step(np.int64(1))
        state = env.get_state()
    state.save(tmp_path / "state")
    return state, tmp_path / "state"


def test_a_changed_byte_is_an_error_or_changes_nothing(saved):
    state, path = saved
    refused = 0
    for at in one_bit_changed(path, 80):
        try:
            assert value(DreamState.load(path)) == value(state), at
        except ValueError as error:
            assert f"{path} is not a dream state" in str(error)
            refused += 1
    assert refused > 60 and value(DreamState.load(path)) == value(state)


def test_states_of_before_are_read_if_they_are_finite(saved):
    state, path = saved
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = {"dream_state": file.metadata()["dream_state"]}
    save_file(tensors, path, metadata)
    assert value(DreamState.load(path)) == value(state)
    save_file({**tensors, "memory.features": torch.full_like(tensors["memory.features"], torch.nan)}, path, metadata)
    with pytest.raises(ValueError, match="memory.features holds numbers that are not finite"):
        DreamState.load(path)
