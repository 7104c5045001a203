"""What came of a soak: how often something was tried, what it came to, and every time that it went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lssvwm_bench.figures import markdown_table


@dataclass
class Outcome:
    """Counts of one row of the table."""

    what: str
    """Was done, to what."""
    tried: int = 0
    """How often."""
    came_to: dict[str, int] = field(default_factory=dict)
    """What that led to, and how often; all of it is right."""
    wrong: list[str] = field(default_factory=list)
    """A sentence for each time that it led to something else."""

    def count(self, what: str) -> None:
        """It came to this once more."""
        self.came_to[what] = self.came_to.get(what, 0) + 1


def outcome_table(outcomes: Sequence[Outcome]) -> str:
    """Markdown, one row per outcome."""
    rows = [
        [each.what, f"{each.tried:,}", "; ".join(f"{n:,} {what}" for what, n in each.came_to.items()) or "-",
         f"{len(each.wrong):,}"]
        for each in outcomes
    ]  # fmt: skip
    return markdown_table(["what", "tried", "came to", "wrong"], rows)
