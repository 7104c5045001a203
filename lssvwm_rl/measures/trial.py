"""Trial: an episode played for a measurement, with what is hidden from the agent."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lssvwm_rl.data.store import Episode


@dataclass(frozen=True)
class Trial:
    """T steps.

    Attributes:
        episode: its frames 0..T, actions and vectors.
        surfaces: (T+1, H, W) int32, what every pixel shows, see `revisit.sight_ages`; None where the environment cannot
            tell.
        hidden: what `info` held at every frame, name -> (T+1, ...).
    """

    episode: Episode
    surfaces: np.ndarray | None = None
    hidden: dict[str, np.ndarray] = field(default_factory=dict)
