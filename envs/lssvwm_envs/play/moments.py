"""Moments and lines: what has been played, as values, and the states that are kept of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np

from lssvwm_envs.dream.state import DreamState
from lssvwm_rl.model.memory import Memory

Source = Literal["real", "dream", "given"]
KEPT_BYTES = 128 * 2**20
NEAR = 0.03  # seconds, which nobody notices when going back
MOST_DOUBLINGS = 14  # no line has more places than 2**13


@dataclass(frozen=True, eq=False)
class Moment:
    """One frame and what belongs to it; compared by identity, since several lines may share it."""

    frame: np.ndarray
    """(H, W, C) uint8."""
    source: Source
    """Whether it is a real frame, a dreamt one, or a picture or state that was given."""
    action: np.ndarray | None = None
    """() or (A,), what led to it; None for a beginning."""
    reward: float = 0.0
    total: float = 0.0
    """Rewards up to it."""
    end: float | None = None
    """Probability that the episode ended with it, as the model says; None if it was not dreamt."""
    doubt: float | None = None
    """In [0, 1]; None if it was not dreamt, or has no scale."""
    terminated: bool = False
    truncated: bool = False
    """By the real environment; that a dream has reached its horizon is decided when it is to go on."""
    passes: int = 0
    """Network passes it was denoised by; 0 if it was not dreamt."""
    steps: int = 0
    """Dreamt since the last real or given frame."""
    vectors: np.ndarray | None = None
    """(V,) float32 beside a real frame, as far as the model is shown them."""
    reseeded: int | None = None
    """Seed from which the noise of all that follows was drawn anew, if it was."""

    @property
    def ended(self) -> bool:
        """Whether nothing can follow it."""
        return self.terminated or self.truncated


@dataclass(frozen=True)
class Line:
    """Moments in order, and which of them is looked at. What leads from one to the next is its action, and from a real
    one to another the environment as well."""

    name: str
    beginning: DreamState
    """State at the first moment, from which all later ones can be computed again."""
    moments: tuple[Moment, ...]
    at: int = 0

    @property
    def now(self) -> Moment:
        """The moment that is looked at."""
        return self.moments[self.at]

    @property
    def past(self) -> tuple[Moment, ...]:
        """All moments up to the one that is looked at."""
        return self.moments[: self.at + 1]

    @property
    def is_last(self) -> bool:
        """Whether nothing has been played after the moment that is looked at."""
        return self.at == len(self.moments) - 1

    def then(self, moment: Moment) -> Line:
        """The line that goes on with a moment from where it is looked at; what came after is replaced."""
        return replace(self, moments=(*self.past, moment), at=self.at + 1)

    def looked_at(self, at: int) -> Line:
        """The line looked at elsewhere, at the nearest moment that it has."""
        return replace(self, at=min(max(at, 0), len(self.moments) - 1))

    def branch(self, name: str, now: Moment, state: DreamState) -> Line:
        """A new line with the same past, whose present is `now` with this state."""
        return Line(name, self.beginning if self.at else state, (*self.moments[: self.at], now), self.at)


@dataclass(frozen=True)
class Panel:
    """One picture of a page: a line, and whether it is chosen or driven by actions."""

    line: Line
    number: int | None
    """Of a future, None for the real line."""
    selected: bool
    driven: bool
    memory: Memory
    """At the moment that is looked at."""


@dataclass(frozen=True)
class _Kept:
    state: DreamState
    place: int
    """Of the moment in its line."""
    seconds: float
    """That computing it again takes, from the last one before it that stays; infinite if it is to stay."""


@dataclass
class KeptStates:
    """The states of moments, as many as fit and are worth it; those that were let go can be computed again.

    Between two that stay lie as many steps as are computed again in `near` seconds. To keep every one would cost small
    models nearly as much as to dream it: memory that was never written before is slow to write.

    Where there are too many, those stay whose places in their lines are multiples of a number, which doubles until half
    of them are gone: so they are evenly spread, and what is between two is soon computed.
    """

    limit: int = KEPT_BYTES
    near: float = NEAR
    _kept: WeakKeyDictionary[Moment, _Kept] = field(default_factory=WeakKeyDictionary)
    _each: int = 0
    _apart: int = 1

    @property
    def nbytes(self) -> int:
        """Bytes of their memories, or a little more: as many for each as for the largest."""
        return len(self._kept) * self._each

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, moment: Moment) -> DreamState | None:
        """The state at a moment, if it is kept."""
        found = self._kept.get(moment)
        return None if found is None else found.state

    def put(self, moment: Moment, place: int, state: DreamState) -> None:
        """Keep a state; it is let go when the moment is in no line any more.

        Args:
            place: of the moment in its line.
        """
        self._put(moment, _Kept(state, place, math.inf))

    def follow(self, before: Moment, moment: Moment, place: int, state: DreamState, seconds: float) -> None:
        """Keep the state at a moment that was dreamt from another one, whose state is let go if it is near one that
        stays.

        Args:
            place: of the moment in its line.
            seconds: that dreaming it took.
        """
        found = self._kept.get(before)
        if found is not None and found.seconds < self.near:
            self.let_go([before])
            seconds += found.seconds
        self._put(moment, _Kept(state, place, seconds))

    def _put(self, moment: Moment, kept: _Kept) -> None:
        self._kept[moment] = kept
        self._each = max(self._each, kept.state.memory.nbytes)
        if self.nbytes > self.limit:
            self._thin_out([each for each in self._kept if each is not moment])

    def _thin_out(self, moments: list[Moment]) -> None:
        for self._apart in (self._apart * 2**k for k in range(MOST_DOUBLINGS)):
            gone = [each for each in moments if self._kept[each].place % self._apart]
            if 2 * len(gone) >= len(moments):
                break
        else:
            gone = moments  # beginnings, which are the first to be computed again
        self.let_go(gone)

    def let_go(self, moments: Iterable[Moment]) -> None:
        """Keep these states no longer."""
        for moment in moments:
            self._kept.pop(moment, None)
