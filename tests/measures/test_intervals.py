"""Confidence intervals against SciPy's, which the package itself does not need."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lssvwm_rl.measures.intervals import mean_interval, student_quantile, wilson_interval


@pytest.mark.parametrize("trials", [1, 2, 7, 200])
def test_wilson_is_scipys(trials):
    for successes in range(trials + 1):
        expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
        low, high = wilson_interval(successes, trials)
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert 0 <= low <= successes / trials <= high <= 1 and low < high


@pytest.mark.parametrize("degrees", [*range(1, 40), 199, 1000, 9999])
def test_the_quantile_is_scipys(degrees):
    assert student_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-9)


def test_the_interval_of_a_mean_is_scipys():
    values = np.random.default_rng(0).gamma(0.3, size=23)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert mean_interval(values[:1]) is None
    assert mean_interval(np.full(5, 0.25)) == (0.25, 0.25)


def test_what_has_no_interval_is_said():
    for successes, trials in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="at least one trial"):
            wilson_interval(successes, trials)
    with pytest.raises(ValueError, match="at least 1 degree"):
        student_quantile(0)
