"""Presets have the sizes that they promise."""

from __future__ import annotations

import pytest
import torch

from lssvwm_rl.data.store import StoreHeader
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.presets import model_config


@pytest.mark.parametrize(
    ("preset", "low", "high"),
    [("tiny", 1e6, 2.5e6), ("small", 3e6, 4e6), ("base", 25e6, 30e6), ("paper", 190e6, 200e6)],
)
def test_presets_have_the_sizes_they_promise(preset, low, high):
    shape = (56, 56, 3) if preset == "tiny" else (64, 64, 3)
    header = StoreHeader(shape, {"type": "Discrete", "n": 7, "start": 0})
    with torch.device("meta"):
        model = WorldModel(model_config(preset, header))
    assert low <= sum(p.numel() for p in model.parameters()) <= high
    with pytest.raises(ValueError, match="Preset 'huge'"):
        model_config("huge", None)
