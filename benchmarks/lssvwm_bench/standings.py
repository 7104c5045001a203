"""What contenders scored in the same worlds: over the worlds for one policy, over seeds where there are several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from lssvwm_agents.evaluate import EvaluationResult
from lssvwm_bench.contenders import ORACLE, RANDOM, Contender
from lssvwm_bench.figures import NONE, markdown_table, new_figure
from lssvwm_rl.measures.intervals import mean_interval, wilson_interval

Interval = tuple[float, float]


@dataclass(frozen=True)
class Score:
    """A mean, and how sure it is."""

    mean: float
    """Over seeds of the means over worlds."""
    interval: Interval | None
    """95 % confidence interval; None for a single return."""
    spread: float | None
    """Standard deviation over seeds; None for a single seed."""


@dataclass(frozen=True)
class Standing:
    """A contender's seeds, and what each did in the same worlds."""

    seeds: tuple[Contender, ...]
    results: tuple[EvaluationResult, ...]
    """In the order of the seeds."""

    @property
    def success(self) -> Score:
        """Share of successful episodes.

        One policy: Wilson's interval over worlds. Several: Student's over seeds, widened to hold Wilson's around the
        mean, since all seeds play the same worlds and may agree by chance.
        """
        rates = np.array([result.success_rate for result in self.results])
        mean, worlds = float(rates.mean()), len(self.results[0].returns)
        within = wilson_interval(min(mean * worlds, worlds), worlds)
        low, high = _hull(within, mean_interval(rates)) or within
        return Score(mean, (max(low, 0.0), min(high, 1.0)), _spread(rates))

    @property
    def returns(self) -> Score:
        """Undiscounted returns.

        One policy: Student's interval over worlds. Several: Student's over seeds, widened to hold that over worlds of
        the seeds' mean return in each.
        """
        means = np.array([result.mean_return for result in self.results])
        worlds = np.mean([result.returns for result in self.results], axis=0)
        return Score(float(means.mean()), _hull(mean_interval(worlds), mean_interval(means)), _spread(means))

    @property
    def real_steps(self) -> list[int | None]:
        """What each seed's training took."""
        return [seed.cost.real_steps for seed in self.seeds]

    def to_json(self) -> dict[str, Any]:
        """All numbers, as JSON values; of several seeds `returns` and `lengths` are their means in each world."""
        each = [
            {
                **result.to_json(),
                "source": seed.source,
                "real_steps": seed.cost.real_steps,
                "dreamt_steps": seed.cost.dreamt_steps,
                "training_seconds": seed.cost.seconds,
            }
            for seed, result in zip(self.seeds, self.results, strict=True)
        ]
        if len(each) == 1:
            return {**self.results[0].to_json(), "seeds": each}
        seconds, root = sum(result.seconds for result in self.results), len(each) ** 0.5
        success, returns = self.success, self.returns
        lengths = np.stack([result.lengths for result in self.results])
        return {
            "episodes": lengths.shape[1],
            "success_rate": success.mean,
            "success_error": (success.spread or 0.0) / root,
            "success_interval": success.interval,
            "success_spread": success.spread,
            "mean_return": returns.mean,
            "return_error": (returns.spread or 0.0) / root,
            "return_interval": returns.interval,
            "return_spread": returns.spread,
            "mean_length": float(lengths.mean()),
            "seconds": seconds,
            "seconds_per_step": seconds / max(int(lengths.sum()), 1),
            "returns": np.mean([result.returns for result in self.results], axis=0).tolist(),
            "lengths": lengths.mean(axis=0).tolist(),
            "seeds": each,
        }


HEAD = [
    "policy",
    "seeds",
    "real steps",
    "training minutes",
    "success",
    "return",
    "steps per episode",
    "seconds per step",
]


def standings_table(standings: Mapping[str, Standing], env: str) -> str:
    """Markdown, with a caption."""
    rows = []
    for name, standing in standings.items():
        numbers = standing.to_json()
        minutes = [seed.cost.seconds / 60 for seed in standing.seeds if seed.cost.seconds is not None]
        rows.append(
            [
                name,
                str(len(standing.seeds)),
                _range(standing.real_steps),
                f"{np.mean(minutes):.1f}" if minutes else NONE,
                _cell(standing.success),
                _cell(standing.returns),
                f"{numbers['mean_length']:.0f}",
                f"{numbers['seconds_per_step']:.4f}",
            ]
        )
    worlds = max(len(standing.results[0].returns) for standing in standings.values())
    caption = (
        f"Means with 95 % confidence intervals over {worlds} test worlds of {env}, the same for every policy: Wilson's "
        "for success, the share of episodes with a return above zero, Student's for returns. Of several seeds "
        "Student's over seeds, widened to hold that over worlds, and the standard deviation over seeds (±). Real steps "
        "include those of a world model's data; training minutes include the world model's for agents of a loop alone."
    )
    return f"{markdown_table(HEAD, rows)}\n\n{caption}"


def standings_plot(standings: Mapping[str, Standing], env: str) -> Figure:
    """Bars of success and of return with intervals, a dot per seed; and returns against real steps, if any is known."""
    known = any(steps for standing in standings.values() for steps in standing.real_steps)
    figure, panels = new_figure(3 if known else 2, width=max(4.5, 0.8 * len(standings)))
    scores = {
        "success": [(s.success, [r.success_rate for r in s.results]) for s in standings.values()],
        "mean return": [(s.returns, [r.mean_return for r in s.results]) for s in standings.values()],
    }
    for axes, (label, values) in zip(panels, scores.items(), strict=False):
        for i, (score, dots) in enumerate(values):
            axes.bar(i, score.mean, yerr=_error(score), capsize=4, color=f"C{i}", alpha=0.8)
            axes.plot([i] * len(dots), dots, "k.", markersize=3, linestyle="none")
        axes.set(title=env, ylabel=label)
        axes.set_xticks(range(len(standings)), list(standings), rotation=25 if len(standings) > 4 else 0)
    panels[0].set_ylim(0, 1.05)
    if known:
        _against_steps(panels[2], standings)
    return figure


def _against_steps(axes: Axes, standings: Mapping[str, Standing]) -> None:
    for i, (name, standing) in enumerate(standings.items()):
        label: str | None = name
        if name in (RANDOM, ORACLE):
            axes.axhline(standing.returns.mean, color=f"C{i}", linestyle="--", label=label)
            continue
        for seed, result in zip(standing.seeds, standing.results, strict=True):
            if seed.cost.real_steps:
                score = Standing((seed,), (result,)).returns
                style: dict[str, Any] = {"color": f"C{i}", "marker": "o", "capsize": 3, "label": label}
                axes.errorbar([seed.cost.real_steps], [score.mean], yerr=_error(score), **style)
                label = None  # once in the legend
    known = [steps for standing in standings.values() for steps in standing.real_steps if steps]
    # Wide enough for a power of ten, so that the ticks between need no labels.
    axes.set(xscale="log", xlim=(min(known) / 4, max(known) * 4), xlabel="real steps", ylabel="mean return")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(fontsize="small")


def _hull(first: Interval | None, second: Interval | None) -> Interval | None:
    if first is None or second is None:
        return first or second
    return min(first[0], second[0]), max(first[1], second[1])


def _spread(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _error(score: Score) -> np.ndarray | None:
    """Below and above the mean (2, 1)."""
    if score.interval is None:
        return None
    # Of shares of 0 or 1 the mean is an end of the interval, up to rounding.
    return np.maximum([[score.mean - score.interval[0]], [score.interval[1] - score.mean]], 0)


def _cell(score: Score) -> str:
    interval = "" if score.interval is None else f" [{score.interval[0]:.3f}, {score.interval[1]:.3f}]"
    return f"{score.mean:.3f}{'' if score.spread is None else f' ± {score.spread:.3f}'}{interval}"


def _range(steps: list[int | None]) -> str:
    known = [count for count in steps if count is not None]
    if not known:
        return NONE
    low, high = min(known), max(known)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
