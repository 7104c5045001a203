"""A new objective is a function that noises a clip, and one row of a table: this one noises all frames alike."""

from __future__ import annotations

import dataclasses

import torch

from lssvwm_rl.model.flow import add_noise
from lssvwm_rl.training.noise import Clip, Noised
from lssvwm_rl.training.objective import OBJECTIVES, Objective, ObjectiveConfig
from support.small_models import random_batch, small_model


def same_level(clip: Clip, generator: torch.Generator) -> Noised:
    tau = clip.tau[:, :1].expand(clip.tau.shape)
    noisy = add_noise(clip.tokens, clip.noise_tokens, tau)[:, :, None]
    mask = clip.batch.mask
    return Noised(noisy, tau[:, :, None], None, clip.x, denoised=mask, clean=mask & False, writes_clean=False)


def test_a_new_objective_is_one_row(monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "same_level", (same_level,))
    model = small_model()
    batch = random_batch(model, [6, 4], 6)
    objective = Objective(model, ObjectiveConfig(name="same_level"))
    losses, after, _ = objective(batch, model.initial_memory(2), torch.Generator().manual_seed(0))
    losses["total"].backward()
    assert losses["frame"] > 0 and losses["reward"] == 0 and model.patch_out.weight.grad.abs().sum() > 0
    committed, _ = model.observe(model.initial_memory(2), batch.frames, batch.actions)
    assert torch.equal(after.features, committed.features), "noised frames stay in no memory"
    again = dataclasses.replace(batch, rewards=batch.rewards + 1)
    assert torch.equal(objective(again, None, torch.Generator().manual_seed(0))[0]["total"], losses["total"])
