"""TrainConfig: how a world model is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lssvwm_rl.training.optimizer import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig(OptimizerConfig):
    """Settings of a training; presets fill in what suits their size.

    Raises:
        ValueError: for numbers out of range, or settings that exclude each other.
    """

    batch_size: int = 16
    """Clips per update and device."""
    span: int = 32
    """Frames per clip."""
    history: int = 256
    """Frames before a clip that the parts which are never trained take in (the reservoir, fast weights): so heads and
    recollection learn from more than a clip. A stream has them anyway."""
    newest: float = 0.0
    """Share of the clips that comes from the last quarter of the store's episodes, the others from all of them: where a
    store has grown, what is new is learnt soon, and what is old is not forgotten."""
    by_length: bool = False
    """Draw clips so that all frames are seen about as often, instead of all episodes: where few are long and many
    short."""
    curriculum: tuple[tuple[int, int], ...] = ()
    """Stages (frames per clip, updates) before those of the span, for example 16 1000 32 1000."""
    stream: bool = False
    """Clips go on where the last ones ended, with the memory carried (no gradient passes through it), so that the
    training context is as long as the episodes, at the memory of one clip."""
    steps: int = 6_000
    """Updates in all."""
    minutes: float | None = None
    """Time in all, resumed sessions included; ends the training if it comes before `steps`."""
    seed: int = 0
    """Decides weights, clips and noise."""
    device: str = "auto"
    """Lightning Fabric's accelerator: auto, cpu, cuda, ..."""
    devices: int = 1
    """How many of them, each with a batch of its own; under `torchrun` and `fabric run` on all machines together, where
    1 means as many as there are processes. Fewer processes share the batches of more devices, with the same losses."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """What several devices share: batches alone (ddp), or also weights, moments and average (fsdp), where these do not
    fit on each. Losses, checkpoints and files are the same, and a run may go on with the other."""
    precision: str = "32-true"
    """Lightning Fabric's precision. bf16-mixed is faster where the machine has units for it; the scan stays in fp32.
    "auto" takes it where it is faster, else 32-true, in every session anew: a run that goes on elsewhere may change."""
    log_every: int = 20
    """Updates between rows of the learning curve."""
    measure_every: int = 250
    """Updates between measurements by callbacks; 0 for none."""
    preview_every: int = 1_000
    """Updates between videos of dreams; 0 for none."""
    activation_checkpointing: bool = False
    """Run layers again in the backward pass instead of keeping their activations: less memory for more time."""
    checkpoint_minutes: float = 3.0
    """Time between checkpoints."""

    def __post_init__(self) -> None:
        if min(self.batch_size, self.steps, self.devices, self.log_every) < 1 or self.span < 2:
            raise ValueError(f"batch_size, steps, devices and log_every must be at least 1 and span 2, got {self}.")
        if self.strategy not in ("ddp", "fsdp"):
            raise ValueError(f"strategy must be ddp or fsdp, got {self.strategy!r}.")
        if self.history < 0:
            raise ValueError(f"history must be at least 0 frames, got {self.history}.")
        if not 0 <= self.newest <= 1 or (self.newest and self.stream):
            raise ValueError(f"newest must be a share from 0 to 1, and 0 for a stream; got {self.newest}.")
        if self.by_length and self.stream:
            raise ValueError("A stream reads episodes from end to end; leave out either by_length or stream.")
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"minutes must be positive, got {self.minutes}.")
        if any(frames < 2 or updates < 1 for frames, updates in self.curriculum):
            raise ValueError(f"Stages need at least 2 frames and 1 update, got {self.curriculum}.")
        if self.stream and self.curriculum:
            raise ValueError("A stream has chunks of one span; leave out either the curriculum or stream.")

    def span_at(self, step: int) -> int:
        """Frames per clip at an update."""
        for frames, updates in self.curriculum:
            if step < updates:
                return frames
            step -= updates
        return self.span
