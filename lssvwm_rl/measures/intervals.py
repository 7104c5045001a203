"""95 % confidence intervals of what episodes and seeds give: Wilson's for shares, Student's for means."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95


def wilson_interval(successes: float, trials: int) -> tuple[float, float]:
    """The confidence interval of a probability after so many successes in so many independent trials.

    Unlike a mean with two standard errors it does not shrink to a point where all or none succeed (Wilson, "Probable
    inference, the law of succession, and statistical inference", 1927).

    Args:
        successes: from 0 to `trials`, a mean of several counts included.

    Raises:
        ValueError: if there are no trials, or more successes than trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials have no interval; give at least one trial.")
    z, share = NormalDist().inv_cdf((1 + CONFIDENCE) / 2), successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # Rounding must not put an end beyond what is possible.
    low = 0.0 if successes == 0 else middle - half
    return low, 1.0 if successes == trials else middle + half


def mean_interval(values: np.ndarray) -> tuple[float, float] | None:
    """Student's confidence interval of the mean of (n,) independent values; None for fewer than two.

    Exact for normal values; for others, like returns with many zeros, good for a hundred and more; of values
    that are all the same, it has no width.
    """
    count = len(values)
    if count < 2:
        return None
    half = student_quantile(count - 1) * float(np.std(values, ddof=1)) / math.sqrt(count)
    mean = float(np.mean(values))
    return mean - half, mean + half


def student_quantile(degrees: int) -> float:
    """How many standard errors a mean lies at most from the true one, with probability `CONFIDENCE`.

    Found by bisection of the distribution function, which for whole degrees of freedom is a finite sum (Abramowitz and
    Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4).

    Raises:
        ValueError: for less than one degree of freedom.
    """
    if degrees < 1:
        raise ValueError(f"Student's distribution has at least 1 degree of freedom, not {degrees}.")
    low, high = 1.0, 16.0  # the quantiles of 1 degree and of infinitely many are 12.7 and 1.96
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < CONFIDENCE else (low, middle)
    return (low + high) / 2


def _within(t: float, degrees: int) -> float:
    """The probability that Student's t lies between -t and t."""
    angle = math.atan(t / math.sqrt(degrees))
    odd = degrees % 2
    if degrees == 1:
        return 2 * angle / math.pi
    term = math.cos(angle) if odd else 1.0
    total = term
    for k in range(2 + odd, degrees - 1, 2):
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
