"""Distances of histograms say how far dreams have drifted, chunk after chunk."""

from __future__ import annotations

import numpy as np
import pytest

from lssvwm_bench.dream_trials import DreamTrials
from lssvwm_bench.protocols.long import FLOOR, drift_table, measure_drift
from lssvwm_rl.data.store import Episode
from lssvwm_rl.measures.drift import CHUNK, chunk_distances, color_histogram, gradient_histogram, total_variation
from lssvwm_rl.measures.trial import Trial
from support.small_models import small_model

NOISE = np.random.default_rng(0).integers(0, 256, (2, 120, 16, 16, 3), dtype=np.uint8)


def test_histograms_are_those_of_numpy():
    colors = color_histogram(NOISE)
    for c in range(3):
        expected = np.histogram(NOISE[..., c], 16, (0, 256))[0] / NOISE[..., c].size
        np.testing.assert_allclose(colors[c], expected)
    flat = np.full((1, 1, 8, 8, 3), 90, np.uint8)
    assert gradient_histogram(flat)[0, 0] == 1
    steps = flat.copy()
    steps[..., 4:, :] += 20  # one of seven columns has a step of 20, between 16 and 32
    assert gradient_histogram(steps)[0] == pytest.approx([6 / 7, 0, 0, 0, 0, 1 / 7, 0, 0, 0, 0])
    assert gradient_histogram(NOISE).sum() == pytest.approx(1)


def test_the_distance_is_0_alike_and_1_disjoint():
    dark, light = np.zeros_like(NOISE), np.full_like(NOISE, 255)
    assert total_variation(color_histogram(dark), color_histogram(light)) == 1
    half = np.concatenate([dark, light])
    assert total_variation(color_histogram(dark), color_histogram(half)) == pytest.approx(0.5)
    assert chunk_distances(NOISE, NOISE) == {"color": [0, 0, 0], "gradient": [0, 0, 0]}


def test_drift_shows_in_the_chunk_where_it_begins():
    drifted = NOISE.copy()
    drifted[:, CHUNK : 2 * CHUNK] //= 2
    distances = chunk_distances(drifted, NOISE)
    for name in ("color", "gradient"):
        assert distances[name][0] == distances[name][2] == 0 < distances[name][1]
    assert distances["color"][1] == pytest.approx(0.5, abs=0.01)


def test_a_model_is_measured_beside_the_floor():
    steps, context = 63, 4
    rng = np.random.default_rng(1)
    trials = [
        Trial(
            Episode(
                rng.integers(0, 256, (steps + 1, 16, 16, 3), dtype=np.uint8), rng.integers(0, 4, steps),
                np.zeros(steps, np.float32), False, True,
            )
        )
        for _ in range(3)
    ]  # fmt: skip
    results, dreams = measure_drift({"ours": small_model()}, trials, DreamTrials(context, denoise_steps=1))
    assert results["chunks"] == [[1, 50], [51, 60]]
    ours, floor = results["rows"]
    assert (ours["predictor"], ours["kind"], floor["predictor"]) == ("ours", "block_ssm", FLOOR)
    assert dreams["ours"].shape == (1, 60, 16, 16, 3)
    real = np.stack([t.episode.frames[context:] for t in trials])
    assert floor["color"] == chunk_distances(real[[0, 2]], real[[1]])["color"]
    assert 0 < max(floor["color"]) < min(ours["color"])
    assert "colour 1–50 | colour 51–60 | gradient 1–50" in drift_table(results)
    with pytest.raises(ValueError, match="at least 2, not 1"):
        measure_drift({}, trials[:1], DreamTrials(context))
