"""Scores of predicted frames are those of the pixels that they name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchmetrics.functional.image import peak_signal_noise_ratio

from lssvwm_bench.dream_trials import FREE_RUNNING, TEACHER_FORCED, DreamTrials, compare_dreams
from lssvwm_bench.lineup import shared_reach
from lssvwm_rl.data.store import Episode
from lssvwm_rl.measures.baselines import copied_frames, oracle_frames
from lssvwm_rl.measures.frame_scores import Revisits, score_frames
from lssvwm_rl.measures.psnr import EXACT, psnr, psnr_by_mask, squared_error
from lssvwm_rl.measures.revisit import (
    IGNORED,
    MEMORY,
    NAMES,
    NEVER,
    NO_SURFACE,
    UNSEEN,
    WINDOW,
    revisit_masks,
    sight_ages,
)
from lssvwm_rl.measures.trial import Trial
from lssvwm_rl.model.predict import predict_frames
from lssvwm_rl.model.world_model import WorldModel
from support.small_models import BACKBONE, small_model

STEPS, CONTEXT, REACH = 12, 5, 3


def played(seed: int, vectors: int = 0, side: int = 16) -> Trial:
    rng = np.random.default_rng(seed)
    episode = Episode(
        frames=rng.integers(0, 256, (STEPS + 1, side, side, 3), dtype=np.uint8),
        actions=rng.integers(0, 4, STEPS),
        rewards=np.zeros(STEPS, np.float32),
        terminated=False,
        truncated=True,
        vectors=rng.standard_normal((STEPS + 1, vectors)).astype(np.float32) if vectors else None,
    )
    return Trial(episode, rng.integers(-1, 900, (STEPS + 1, side, side)).astype(np.int32))


TRIALS = [played(i) for i in range(3)]
EPISODES = [trial.episode for trial in TRIALS]
REAL = np.stack([e.frames[CONTEXT:] for e in EPISODES])


def kind_of(name: str, **changes) -> WorldModel:
    return small_model(backbone=replace(BACKBONE, kind=name), **changes)


def of_errors(errors: list[float]) -> float:
    return 10 * np.log10(255**2 / np.mean(errors))


def test_psnr_is_that_of_torchmetrics_and_of_a_perfect_frame_not_infinite():
    predicted = np.random.default_rng(9).integers(0, 256, REAL.shape, dtype=np.uint8)
    ours, theirs = (torch.from_numpy(frames).double() for frames in (predicted, REAL))
    reference = peak_signal_noise_ratio(ours, theirs, data_range=255.0)
    # The reference rounds the factor 10 / log(10) to fp32.
    assert psnr(predicted, REAL) == pytest.approx(float(reference), rel=2**-24)
    assert psnr(REAL, REAL) == EXACT > 130
    assert squared_error(predicted, REAL).shape == REAL.shape[:-1]
    masks = np.arange(REAL[..., 0].size).reshape(REAL.shape[:-1]) % 3
    by_mask = psnr_by_mask(predicted, REAL, masks, {0: "a", 1: "b", 7: "none"})
    for value, name in enumerate("ab"):
        assert by_mask[name] == pytest.approx(psnr(predicted[masks == value], REAL[masks == value]), abs=1e-9)
    assert np.isnan(by_mask["none"])


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.int32, st.tuples(st.integers(1, 7), st.integers(1, 3), st.integers(1, 3)), elements=st.integers(-1, 5)),
    st.integers(1, 5),
    st.none() | st.integers(1, 7),
)
def test_ages_and_masks_are_those_of_a_loop_over_pixels(surfaces, reach, until):
    ages, masks = sight_ages(surfaces, until), revisit_masks(surfaces, reach, until)
    end = len(surfaces) if until is None else until
    for t, y, x in np.ndindex(surfaces.shape):
        seen = [s for s in range(min(t, end)) if (surfaces[s] == surfaces[t, y, x]).any()]
        if surfaces[t, y, x] < 0:
            age, mask = NO_SURFACE, IGNORED
        elif not seen:
            age, mask = UNSEEN, NEVER
        else:
            age = t - seen[-1]
            mask = WINDOW if seen[-1] in range(min(t, end) - reach + 1, min(t, end)) else MEMORY
        assert (ages[t, y, x], masks[t, y, x]) == (age, mask)


def test_scores_are_those_of_a_loop_over_pixels():
    predicted = np.random.default_rng(9).integers(0, 256, REAL.shape, dtype=np.uint8)
    revisits = Revisits.of(TRIALS, CONTEXT, REACH, False)
    scores = score_frames(predicted, REAL, revisits)
    by_class: dict = {}
    by_age: dict = {}
    by_frame: dict = {}
    for i, trial in enumerate(TRIALS):
        ages, masks = sight_ages(trial.surfaces), revisit_masks(trial.surfaces, REACH)
        for f, y, x in np.ndindex(REAL.shape[1:4]):
            error = np.mean((predicted[i, f, y, x].astype(float) - REAL[i, f, y, x].astype(float)) ** 2)
            by_frame.setdefault(f, []).append(error)
            by_class.setdefault(masks[CONTEXT + f, y, x], []).append(error)
            age = ages[CONTEXT + f, y, x]
            if age >= 1:
                by_age.setdefault(int(np.floor(np.log2(age))), []).append(error)
    assert {WINDOW, MEMORY, NEVER} <= set(by_class) and len(by_age) >= 3
    assert scores["psnr"] == pytest.approx(of_errors(sum(by_frame.values(), [])), abs=1e-9)
    assert scores["frames"]["psnr"] == pytest.approx([of_errors(by_frame[f]) for f in range(REAL.shape[1])], abs=1e-9)
    for value, name in NAMES.items():
        assert scores["classes"][name]["psnr"] == pytest.approx(of_errors(by_class[value]), abs=1e-9)
        assert scores["classes"][name]["pixels"] == len(by_class[value])
    assert [(b["from"], b["to"]) for b in scores["ages"]] == [(2**k, 2 ** (k + 1) - 1) for k in range(len(by_age))]
    for k, row in enumerate(scores["ages"]):
        assert row["psnr"] == pytest.approx(of_errors(by_age[k]), abs=1e-9)
        assert row["pixels"] == len(by_age[k])


def test_a_perfect_prediction_scores_as_such_and_what_is_wrong_only_where_it_is():
    revisits = Revisits.of(TRIALS, CONTEXT, REACH, False)
    perfect = score_frames(REAL, REAL, revisits)
    assert perfect["psnr"] == EXACT and perfect["ssim"] == pytest.approx(1)
    assert all(b["ssim"] == pytest.approx(1) for b in perfect["ages"])
    wrong = REAL.copy()
    chosen = (revisits.ages >= 2) & (revisits.ages <= 3)
    wrong[chosen] ^= 16
    scores = score_frames(wrong, REAL, revisits)
    assert scores["ages"][1]["psnr"] == pytest.approx(20 * np.log10(255 / 16))
    assert scores["ages"][0]["psnr"] > 100 and scores["classes"]["never seen"]["psnr"] > 100
    assert scores["ages"][1]["ssim"] == min(b["ssim"] for b in scores["ages"]) < 1
    assert score_frames(wrong, REAL).keys() == {"psnr", "ssim", "frames"}


def test_ages_without_pixels_are_none():
    still = [Trial(e, np.zeros((STEPS + 1, 16, 16), np.int32)) for e in EPISODES]
    scores = score_frames(REAL, REAL, Revisits.of(still, CONTEXT, REACH, False))
    assert scores["classes"]["memory"] == {"pixels": 0, "psnr": None, "ssim": None}
    assert [b["from"] for b in scores["ages"]] == [1]


def coloured(count: int, side: int = 6) -> list[Trial]:
    """Surfaces of random colours, seen in a strip that moves on and comes back."""
    trials = []
    for i in range(count):
        rng = np.random.default_rng(100 + i)
        colours = rng.integers(0, 256, (200, 3), dtype=np.uint8)
        offsets = np.r_[np.arange(8), np.arange(7, -1, -1)]
        columns = offsets[:, None] + np.arange(side)
        surfaces = np.broadcast_to(columns[:, None] * 2, (len(offsets), side, side)) + (np.arange(side)[:, None] > 2)
        frames = colours[surfaces]
        steps = len(offsets) - 1
        episode = Episode(frames, np.zeros(steps, np.int64), np.zeros(steps, np.float32), False, True)
        trials.append(Trial(episode, surfaces.astype(np.int32)))
    return trials


def test_no_predictor_that_knows_the_window_alone_beats_its_oracle():
    trials, context, reach = coloured(12), 8, 3
    revisits = Revisits.of(trials, context, reach, False)
    real = np.stack([t.episode.frames[context:] for t in trials])
    known = revisits.masks == WINDOW
    assert known.any() and (revisits.masks == MEMORY).any()
    oracle = oracle_frames(trials, revisits.masks, context)
    np.testing.assert_array_equal(oracle[known], real[known])
    best = score_frames(oracle, real, revisits)
    rng = np.random.default_rng(0)
    last = np.stack([t.episode.frames[context - 1 : -1] for t in trials])
    guesses = [np.full_like(real, 127), last, rng.integers(0, 256, real.shape[2:], dtype=np.uint8)]
    guesses += [real.mean(axis=(0, 1)).round(), real.mean(axis=(0, 1, 2, 3)).round(), real.mean(axis=(0, 1)) * 0.9]
    for guess in guesses:
        predicted = np.where(known[..., None], real, guess).astype(np.uint8)
        other = score_frames(predicted, real, revisits)
        assert best["psnr"] >= other["psnr"]
        assert best["classes"]["memory"]["psnr"] >= other["classes"]["memory"]["psnr"]
    # It does not know what it has to remember.
    assert best["classes"]["memory"]["psnr"] < 20 and best["classes"]["window"]["psnr"] > 100


def test_the_oracle_guesses_each_class_and_place_apart():
    masks = np.array([NEVER, NEVER, MEMORY, WINDOW], np.uint8).reshape(4, 1, 1, 1)
    masks = np.broadcast_to(masks, (4, 1, 1, 2))
    colours = np.array([[10, 0], [31, 100], [200, 50], [77, 77]], np.uint8)
    trials = []
    for colour in colours:
        frames = np.stack([np.zeros((1, 2, 3), np.uint8), np.repeat(colour[None, :, None], 3, axis=2)])
        episode = Episode(frames, np.zeros(1, np.int64), np.zeros(1, np.float32), False, True)
        trials.append(Trial(episode, np.zeros((2, 1, 2), np.int32)))
    oracle = oracle_frames(trials, masks, 1)[:, 0, 0, :, 0]
    # 20.5 is rounded to even.
    np.testing.assert_array_equal(oracle, [[20, 50], [20, 50], [200, 50], [77, 77]])


def test_a_free_running_oracle_knows_the_end_of_the_context_only():
    trials, context, reach = coloured(12), 8, 3
    masks = Revisits.of(trials, context, reach, True).masks
    oracle = oracle_frames(trials, masks, context)
    for i, trial in enumerate(trials):
        known = np.isin(trial.surfaces[context:], trial.surfaces[context - 2 : context])
        wrong = (oracle[i] != trial.episode.frames[context:]).any(axis=-1)
        assert not wrong[known].any() and wrong[~known].mean() > 0.9


def test_copies_are_of_the_last_real_frame():
    forced, free = (copied_frames(TRIALS, CONTEXT, f) for f in (False, True))
    for i, e in enumerate(EPISODES):
        np.testing.assert_array_equal(forced[i], e.frames[CONTEXT - 1 : STEPS])
        assert (free[i] == e.frames[CONTEXT - 1]).all()
    assert free.shape == REAL.shape


def test_all_models_are_judged_by_the_largest_finite_reach():
    models = {name: kind_of(name) for name in ("block_ssm", "ssm", "causal")}
    assert shared_reach(models.values()) == (BACKBONE.window - 1) * len(BACKBONE.blocks) + 1 == 7
    assert shared_reach([models["ssm"]]) == shared_reach([models["ssm"], models["causal"]]) == 1
    with pytest.raises(ValueError, match="--reach"):
        shared_reach([models["causal"]])


def test_a_comparison_has_a_row_for_every_predictor_and_mode():
    models = {"ours": kind_of("block_ssm", vector_size=2), "theirs": kind_of("window")}
    trials = [played(i, vectors=2) for i in range(4)]
    results, dreams = compare_dreams(models, trials, DreamTrials(CONTEXT, denoise_steps=1))
    assert results["reach"] == 7
    got = [(r["predictor"], r["condition"], r["mode"]) for r in results["rows"]]
    expected = [("ours", "pose"), ("theirs", "actions"), ("copy last frame", None), ("window oracle", None)]
    assert got == [(*who, mode) for mode in (TEACHER_FORCED, FREE_RUNNING) for who in expected]
    assert {name: d.shape for name, d in dreams.items()} == dict.fromkeys(models, (3, 8, 16, 16, 3))
    free = predict_frames(models["theirs"], [t.episode for t in trials], CONTEXT, True, 1)
    real = np.stack([t.episode.frames[CONTEXT:] for t in trials])
    row = next(r for r in results["rows"] if (r["predictor"], r["mode"]) == ("theirs", FREE_RUNNING))
    assert row["psnr"] == score_frames(free, real)["psnr"]
    np.testing.assert_array_equal(dreams["theirs"], free[:3])
    unmasked = [replace(t, surfaces=None) for t in trials]
    results, _ = compare_dreams({"theirs": models["theirs"]}, unmasked, DreamTrials(CONTEXT, (FREE_RUNNING,), 1))
    assert results["reach"] is None and [r["predictor"] for r in results["rows"]] == ["theirs", "copy last frame"]
    assert "classes" not in results["rows"][0]


def test_numbers_below_one_are_named():
    with pytest.raises(ValueError, match="at least 1, not 0, 4, 32, 1"):
        DreamTrials(0)
