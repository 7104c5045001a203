"""Settings of a session that can change while it is played."""

from __future__ import annotations

from dataclasses import dataclass

RANGES = {"horizon": (1, 100_000), "denoise_steps": (1, 32), "seed": (0, 999_999_999)}


@dataclass(frozen=True)
class Settings:
    """How dreams are dreamt, and which world is played.

    Raises:
        ValueError: if one is not a whole number in `RANGES`.
    """

    horizon: int = 256
    """Dreamt steps since the last real frame at which a dream is cut."""
    denoise_steps: int = 4
    """Network passes per frame."""
    seed: int = 0
    """Of the real environment's world, counted inside the split "train", of held-out episodes and of noise."""

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ValueError(f"{name} must be a whole number from {low} to {high}, got {str(value)[:40]}.")
