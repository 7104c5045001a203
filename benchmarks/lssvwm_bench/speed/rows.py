"""Rows of the speed table: how they are named, measured and written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from lssvwm_bench.figures import NONE, markdown_table
from lssvwm_bench.stopwatch import interleaved, speedup

HEAD = ["what", "way", "ms before", "ms now", "ratio", "per second", "besides"]


@dataclass(frozen=True)
class Settings:
    """What the rows have in common.

    Raises:
        ValueError: for no repeats or steps.
    """

    checkpoint: str = "minigrid-memory"
    """Of dreams, environments, plans and agents."""
    engines: tuple[str, ...] = ("torch", "native", "native-bf16")
    """That dreams are timed with, where the machine has them; "compiled" needs a minute or more for every batch size.
    Rows that run an agent or a plan have "auto" and "native-bf16"."""
    repeats: int = 9
    """Turns that count."""
    batches: tuple[int, ...] = (1, 16, 128)
    """Dreams side by side, with the checkpoint."""
    small_batches: tuple[int, ...] = (1, 16)
    """The same with untrained weights of the preset `small`."""
    frame: int = 64
    """Side of the frames of untrained models in pixels."""
    clips: tuple[int, int] = (16, 32)
    """Clips per update and frames per clip, of the row "train"."""
    prefill: int = 1_000
    """Frames of the row "prefill"."""
    scan: tuple[int, int] = (16, 512)
    """Sequences and tokens of the row "scan"."""
    env_steps: int = 50
    """Per turn."""
    dreamt_steps: int = 4_096
    """Of an agent's training, per turn."""
    agent_turns: int = 3
    """Turns of an agent's training, which is long."""
    baseline: Path | None = None
    """Source tree of an older version, which "env", "cem" and "ppo" are compared with; else this one's engine torch."""
    peers: Path | None = None
    """Source tree of DIAMOND, for the row "peers"."""

    def __post_init__(self) -> None:
        if min(self.repeats, self.env_steps, self.dreamt_steps, self.agent_turns, self.prefill) < 1:
            raise ValueError(f"Repeats, turns, steps and frames must be at least 1, got {self}.")


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    what: str
    way: str
    before: float | None = None
    """Seconds of the reference, median."""
    now: float | None = None
    """Seconds of this way, median."""
    ratio: float | None = None
    rate: str = ""
    besides: str = ""

    def cells(self) -> list[str]:
        """As the table shows it."""
        times = [NONE if seconds is None else f"{1e3 * seconds:.2f}" for seconds in (self.before, self.now)]
        ratio = NONE if self.ratio is None else f"{self.ratio:.2f}x"
        return [self.what, self.way, *times, ratio, self.rate or NONE, self.besides or NONE]


Row = Callable[[Settings], Iterator[Line]]
ROWS: dict[str, Row] = {}
"""By name, in the order of the table; filled by `row`."""


def row(name: str) -> Callable[[Row], Row]:
    """Register a row."""

    def register(function: Row) -> Row:
        ROWS[name] = function
        return function

    return register


def lines_of(
    what: str,
    times: Mapping[str, list[float]],
    units: int = 0,
    unit: str = "",
    besides: Mapping[str, str] | None = None,
) -> Iterator[Line]:
    """Lines of ways against the first of them.

    Args:
        times: seconds of every way, turn by turn.
        units: done per turn, for the rate; 0 for none.
        besides: by way.
    """
    (_, before), *others = times.items()
    for way, now in others:
        rate = f"{units / median(now):,.1f} {unit}" if units else ""
        yield Line(what, way, median(before), median(now), speedup(before, now), rate, (besides or {}).get(way, ""))


def compare(
    what: str,
    ways: Mapping[str, Callable[[], object]],
    repeats: int,
    units: int = 0,
    unit: str = "",
    besides: Mapping[str, str] | None = None,
) -> Iterator[Line]:
    """`lines_of` functions, called turn by turn; the first is the reference."""
    yield from lines_of(what, interleaved(ways, repeats), units, unit, besides)


def table(lines: list[Line]) -> str:
    """Markdown."""
    return markdown_table(HEAD, [line.cells() for line in lines])
