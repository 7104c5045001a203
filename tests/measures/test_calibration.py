"""Doubt against error: by hand on arrays, and on a model whose dreams are compared with those of another way."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from lssvwm_rl.measures.calibration import calibrate, calibration
from lssvwm_rl.measures.psnr import psnr
from lssvwm_rl.model.checkpoints import load_contexts, load_world_model
from lssvwm_rl.model.doubt import dreams_after_real, measure_scale
from support.small_models import untrained_checkpoint


def decibels(error: float) -> float:
    return 10 * math.log10(255**2 / error)


def test_groups_are_of_equal_size_from_the_surest_to_the_most_doubtful():
    doubts, errors = np.arange(20.0)[::-1], np.arange(1.0, 21.0)  # the most doubtful frame has the smallest error
    found = calibration(doubts, errors, np.full(20, 100.0), errors > 15)
    assert [(g.low, g.high, g.frames) for g in found.groups] == [(0, 0.5, 10), (0.5, 1, 10)]
    assert [g.psnr for g in found.groups] == pytest.approx([decibels(15.5), decibels(5.5)])
    assert [g.wrong for g in found.groups] == [0.5, 0.0]
    assert found.correlation == pytest.approx(-1) and found.frames == 20
    assert (found.psnr, found.copy) == pytest.approx((decibels(10.5), decibels(100)))


def test_many_frames_make_ten_groups_and_ties_share_their_rank():
    rng = np.random.default_rng(0)
    doubts, errors = rng.integers(0, 9, 400).astype(float), rng.random(400) + 1
    found = calibration(doubts, errors, errors, np.zeros(400, bool))
    assert len(found.groups) == 10 and sum(g.frames for g in found.groups) == 400
    assert found.correlation == pytest.approx(spearmanr(doubts, errors).statistic, abs=1e-6)


@pytest.mark.parametrize("errors", [np.ones(1), np.ones(5)])
def test_what_does_not_vary_has_no_correlation(errors):
    found = calibration(np.arange(float(len(errors))), errors, errors, errors > 2)
    assert math.isnan(found.correlation) and len(found.groups) == 1


def test_a_model_is_calibrated_on_the_dreams_of_its_scale(tmp_path):
    torch.set_num_threads(1)
    folder = Path(untrained_checkpoint(tmp_path / "checkpoint"))
    model, contexts = load_world_model(folder), load_contexts(folder)
    steps = list(dreams_after_real(model, contexts))
    assert sum(len(step.real) for step in steps) == contexts.lengths.sum()  # few steps are all dreamt
    truth, before, frames = (
        torch.cat(part).numpy() for part in zip(*((s.real, s.before, s.dreamt.frame) for s in steps), strict=True)
    )
    episodes = list(contexts)
    for t, step in enumerate(steps):
        expected = np.stack([e.frames[t + 1] for e in episodes if len(e) > t])
        np.testing.assert_array_equal(step.real, expected)
        np.testing.assert_array_equal(step.before, np.stack([e.frames[t] for e in episodes if len(e) > t]))
    found = calibrate(model, contexts)
    assert found.frames == len(truth)
    assert (found.psnr, found.copy) == pytest.approx((psnr(frames, truth), psnr(before, truth)))
    doubts = torch.cat([step.dreamt.doubt for step in steps]).double().numpy()
    quantiles = measure_scale(model, contexts).quantiles.numpy()
    np.testing.assert_allclose(quantiles[[0, -1]], [doubts.min(), doubts.max()])
