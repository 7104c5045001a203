"""What a run keeps: a state with a changed byte is refused, whatever byte it is."""

from __future__ import annotations

import pytest
import torch

from lssvwm_rl.training.run_folder import load_state, save_state
from support.changed_bytes import one_bit_changed

STATE = {"model": {"w": torch.arange(40.0), "n": torch.tensor(3)}, "step": 5, "seconds": 0.25, "memory": {}}


def same(found) -> bool:
    tensors = all(torch.equal(found["model"][k], t) for k, t in STATE["model"].items())
    return tensors and {k: v for k, v in found.items() if k != "model"} == {"step": 5, "seconds": 0.25, "memory": {}}


def test_a_changed_byte_of_a_state_is_an_error_or_changes_nothing(tmp_path):
    save_state(tmp_path, STATE)
    path = tmp_path / "trainer" / "state.pt"
    refused = 0
    for at in one_bit_changed(path, 0, first=path.stat().st_size):
        try:
            assert same(load_state(tmp_path)), at
        except ValueError as error:
            assert str(error).startswith(f"{path} is broken") and "remove the trainer folder" in str(error)
            refused += 1
    assert refused > 100 and same(load_state(tmp_path))


@pytest.mark.parametrize("part", [0, 0.5, 0.99])
def test_a_state_that_is_cut_is_an_error(tmp_path, part):
    save_state(tmp_path, STATE)
    path = tmp_path / "trainer" / "state.pt"
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(ValueError, match="is broken"):
        load_state(tmp_path)
