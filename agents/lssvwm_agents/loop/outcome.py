"""What pieces of a loop came to, and which of them is best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Piece:
    """A piece of dreaming, and the real episodes that followed it."""

    round: int
    piece: int
    """0 if nothing was dreamt: what real episodes taught a new policy."""
    dreamt_return: float | None
    """Mean of the last 100 dreams, if something was dreamt."""
    real_return: float
    """Mean of the episodes that were played."""
    real_error: float
    """Its standard error."""
    success: float
    """Share of those episodes with a return above zero."""
    episodes: int
    dreamt_steps: int
    """In all pieces so far."""
    real_steps: int
    """In all stores and real rows so far, what the world model had been trained on before included."""
    minutes: float
    """Of all phases so far."""

    @property
    def gap(self) -> float | None:
        """What the dream promised above what reality gave."""
        return None if self.dreamt_return is None else self.dreamt_return - self.real_return


def best_of(pieces: Sequence[Piece]) -> Piece:
    """The one with the largest real return, the later of equals."""
    return max(pieces, key=lambda piece: (piece.real_return, piece.round, piece.piece))


def parted(pieces: Sequence[Piece]) -> bool:
    """Whether the last piece of a round has fallen in reality, and not in the dream, below the best before it: by more
    than two standard errors of their difference. Where that one has not dreamt, the fall alone decides."""
    if len(pieces) < 2:
        return False
    last, best = pieces[-1], best_of(pieces[:-1])
    fell = best.real_return - last.real_return
    if fell <= 2 * float(np.hypot(best.real_error, last.real_error)):
        return False
    return best.dreamt_return is None or last.dreamt_return is None or last.dreamt_return >= best.dreamt_return


def return_figures(returns: np.ndarray) -> dict[str, Any]:
    """Mean, standard error and share above zero of the returns (N,) of at least two episodes."""
    return {
        "real_return": float(returns.mean()),
        "real_error": float(returns.std(ddof=1) / np.sqrt(len(returns))),
        "success": float((returns > 0).mean()),
        "episodes": len(returns),
    }
