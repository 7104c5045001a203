"""How dreams are dreamt: the settings that the single and the vector environment share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from lssvwm_envs.observation import Observation

STARTS = {"first": 0.0, "anywhere": 1.0}

End = Literal["threshold", "sample"]


@dataclass(frozen=True)
class DreamConfig:
    """How dreams are dreamt.

    Raises:
        ValueError: if a number is not whole or below 1, no checkpoint is named, there is no such start or end, doubt
            is limited or penalised by an impossible number or without a second pass, the temperature is no number of
            at least 0, or `compiled` is given.
    """

    checkpoint: str | None
    """Run folder, packaged name or hub id."""
    context_length: int = 1
    """Real frames observed at reset, from the beginning of a held-out episode; 1 starts where real episodes start."""
    horizon: int = 256
    """Dreamt steps until truncation."""
    denoise_steps: int = 4
    """Network passes per frame; more are slower and sharper."""
    device: str = "cpu"
    """Of the model."""
    engine: str = "auto"
    """What runs the model, see `engine.make_engine`: "auto" is the fastest whose frames are those of all engines;
    "compiled", which it is on CUDA, needs a minute or more for the first step."""
    observation: Observation = "image"
    """What agents see: image, memory or both."""
    start: float | str = "first"
    """"first": after the first `context_length` frames of a real episode; "anywhere": there or at any later moment,
    all alike, of any episode, with all frames before it observed; a number is the share that begins anywhere."""
    contexts: str | None = None
    """Store of the real episodes; None for the held-out ones that come with the checkpoint."""
    end: End = "threshold"
    """"threshold": a dream ends where the model gives its end more than probability 0.5; "sample": the end is drawn
    with that probability, by the row's own random numbers. The reward is that of a frame that ended the episode or of
    one that did not, as it was decided."""
    doubt_limit: float | None = None
    """Doubt in (0, 1] at which a dream is truncated: 0.99 is that of the most doubtful hundredth of the checkpoint's
    held-out frames, 1 more than of any. None lets dreams go on, whatever their doubt."""
    doubt_penalty: float = 0.0
    """Times the doubt in [0, 1] of each frame, it is subtracted from the reward."""
    temperature: float = 1.0
    """Times the noise that each frame is made of; 1 is as in training. With 0, a memory and an action always lead to
    the same frame, whatever the seed. Random numbers are drawn alike, and doubt keeps its scale, at any temperature."""
    compiled: bool | None = None
    """Not to be given any more."""

    def __post_init__(self) -> None:
        if self.checkpoint is None:
            raise ValueError(
                'A dream needs a world model; name one, as in gym.make("lssvwm/Dream-v0", checkpoint="runs/NAME").'
            )
        if self.compiled is not None:
            raise ValueError(f'compiled={self.compiled!r} is now engine="{"compiled" if self.compiled else "auto"}".')
        numbers = (self.context_length, self.horizon, self.denoise_steps)
        if any(not isinstance(number, (int, np.integer)) or number < 1 for number in numbers):
            raise ValueError(
                "context_length, horizon and denoise_steps must be whole numbers of at least 1, got "
                f"{self.context_length!r}, {self.horizon!r} and {self.denoise_steps!r}."
            )
        share = STARTS.get(self.start) if isinstance(self.start, str) else self.start
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise ValueError(f'A dream cannot start {self.start!r}; use "first", "anywhere" or a share from 0 to 1.')
        if self.end not in get_args(End):
            raise ValueError(f"A dream cannot end by {self.end!r}; use {' or '.join(get_args(End))}.")
        self._check_doubt()
        if not _is_number(self.temperature) or not 0 <= self.temperature < math.inf:
            raise ValueError(
                f"A temperature of {self.temperature!r} is no number of at least 0; use 1 for noise as in training, or "
                "0 for none."
            )

    @property
    def anywhere(self) -> float:
        """Share of dreams that begin anywhere in an episode."""
        return STARTS[self.start] if isinstance(self.start, str) else float(self.start)

    @property
    def needs_doubt(self) -> bool:
        """Whether dreams depend on their doubt."""
        return self.doubt_limit is not None or self.doubt_penalty != 0

    def _check_doubt(self) -> None:
        if self.doubt_limit is not None and not (_is_number(self.doubt_limit) and 0 < self.doubt_limit <= 1):
            raise ValueError(f"A doubt_limit of {self.doubt_limit!r} is outside (0, 1]; use for example 0.99, or None.")
        if not _is_number(self.doubt_penalty) or not 0 <= self.doubt_penalty < math.inf:
            raise ValueError(f"A doubt_penalty of {self.doubt_penalty!r} is no number of at least 0; use 0 for none.")
        if self.needs_doubt and self.denoise_steps < 2:
            raise ValueError("One denoising pass says nothing about doubt; use denoise_steps of at least 2 with it.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
