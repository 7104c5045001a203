"""What a run tells while it goes on: the learning curve, the TensorBoard log with previews of dreams, and progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.tensorboard import FileWriter

from lssvwm_rl.data.store import Episode
from lssvwm_rl.events import write_outcome, write_picture, write_scalars
from lssvwm_rl.model.heat_map import heat_map
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.predict import dream_video, memories_of
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.pictures import FPS, enlarge, frame_strip, gif, png, write_video
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.curve import Curve

MOMENTS = 5  # of an episode, at which the memory is shown


@dataclass(frozen=True)
class Progress:
    """What the caller hears after every update."""

    step: int
    steps: int
    fraction: float
    """Of the training, by steps or by time, whichever is further."""
    loss: float
    """Not finite where the update was skipped."""
    skipped: int
    """Updates so far that were skipped, since loss or gradient was not finite."""
    frames_per_second: float
    updates_per_second: float
    gemm_share: float
    """Of the FLOP/s that the device reached in fp32 matrix products when the session began; with several, of each."""
    data_share: float
    """Of the time, that updates waited for their batches."""
    measured: Mapping[str, float]
    """Figures of the callbacks' last measurement."""

    @property
    def expected(self) -> int:
        """Updates at the end: `steps`, or about as many as there is time for."""
        return min(self.steps, max(self.step, round(self.step / self.fraction))) if self.fraction > 0 else self.steps


class Update(NamedTuple):
    """What came of an update."""

    losses: dict[str, float]
    """Before it, means over all devices."""
    taken: bool
    """False where loss or gradient was not finite, so that the weights stayed as they were."""


@dataclass
class Sums:
    """What the next row of the learning curve is made of; kept in the trainer's state, so that a run that goes on in
    the middle of a row writes the row that it would have written."""

    since: int
    """Step of the last row."""
    losses: dict[str, float] = field(default_factory=dict)
    """Sums over the updates since that were taken."""
    missed: int = 0
    """Updates since that were skipped."""
    skipped: int = 0
    """All that were skipped."""
    measured: dict[str, float] = field(default_factory=dict)
    """Figures of the last measurement."""


class Log:
    """Writes learning_curve.csv, TensorBoard events and preview.mp4 of a run that continues at `step`.

    Args:
        out: run folder.
        preview: episode whose dream is shown.
        on_progress: called after every update.
        gemm_rate: FLOP/s of a device in fp32 matrix products.
        sums: of the run; changed.
    """

    def __init__(
        self,
        out: Path,
        config: TrainConfig,
        preview: Episode,
        step: int,
        on_progress: Callable[[Progress], None] | None,
        gemm_rate: float,
        sums: Sums,
    ):
        self.out, self.config, self.preview, self.on_progress = out, config, preview, on_progress
        self.curve = Curve(out, step)
        self.events = FileWriter(str(out), filename_suffix=f".{step}")
        self.sums = sums
        self.row: dict[str, float] | None = None  # the last one of this session
        self._logged, self._logged_at = step, time.monotonic()  # in this session, for the rates
        self._frames, self._flops, self._waited, self._gemm_rate = 0, 0.0, 0.0, gemm_rate

    def updated(
        self,
        step: int,
        seconds: float,
        done: float,
        frames: int,
        flops: float,
        waited: float,
        update: Update,
        shown: WorldModel | None,
    ) -> None:
        """Tell of an update.

        Args:
            step: updates so far.
            seconds: taken by all of them.
            done: share of the training in [0, 1].
            frames: in the update's batch, on all devices.
            flops: that the update took on this one, see `work.update_flops`.
            waited: seconds until its batch was there.
            update: what came of it.
            shown: model whose dreams are shown, None where that is not due.
        """
        config, sums, now = self.config, self.sums, time.monotonic()
        self._frames, self._flops, self._waited = self._frames + frames, self._flops + flops, self._waited + waited
        passed = max(now - self._logged_at, 1e-9)
        rates = {
            "frames_per_second": self._frames / passed,
            "updates_per_second": (step - self._logged) / passed,
            "gemm_share": self._flops / passed / self._gemm_rate,
            "data_share": self._waited / passed,
        }
        for name, value in update.losses.items():
            sums.losses[name] = sums.losses.get(name, 0.0) + (value if update.taken else 0.0)
        if not update.taken:
            sums.missed, sums.skipped = sums.missed + 1, sums.skipped + 1
        if self.on_progress is not None:
            total = update.losses["total"]
            self.on_progress(Progress(step, config.steps, done, total, sums.skipped, **rates, measured=sums.measured))
        if step % config.log_every == 0:
            taken = step - sums.since - sums.missed
            means = {name: value / taken if taken else math.nan for name, value in sums.losses.items()}
            row = {"step": step, "minutes": seconds / 60, **rates, **means, "skipped": sums.skipped, **sums.measured}
            self.curve.add(row)
            self.row = row
            write_scalars(self.events, {f"train/{name}": v for name, v in row.items() if name != "step"}, step)
            sums.losses, sums.since, sums.missed = {}, step, 0
            self._frames, self._flops, self._waited, self._logged, self._logged_at = 0, 0.0, 0.0, step, now
        if shown is not None:
            self._show(shown, step)

    def keep(self) -> None:
        """Have a checksum cover the learning curve so far."""
        self.curve.keep()

    def close(self, outcome: Mapping[str, Any] | None = None) -> None:
        """Write what is not written yet.

        Args:
            outcome: flat settings of a run that is done, which are written with its last row as results.
        """
        self.events.close()
        self.keep()
        if outcome is not None and self.row is not None:
            results = {name: value for name, value in self.row.items() if name != "step"}
            write_outcome(self.out, outcome, results, int(self.row["step"]))

    def _show(self, model: WorldModel, step: int) -> None:
        """A video real | dreamt in TensorBoard, and as preview.mp4 in the run folder; and what the memory holds."""
        episode = self.preview
        context = min(8, len(episode) // 2 + 1)
        frames = dream_video(model, episode, context, len(episode.frames) - context, seed=0)
        film = enlarge(frames)
        write_picture(self.events, "preview/real_and_dream", gif(film, FPS), film.shape[1:3], step)
        write_video(self.out / "preview.mp4", frames)
        if model.backbone.block_grids():
            image = _filling(model, episode)
            write_picture(self.events, "preview/memory", png(image), image.shape[:2], step)


def _filling(model: WorldModel, episode: Episode) -> np.ndarray:
    """Frames of an episode, and below each what the memory holds after it: (H, W, 3) uint8."""
    counts = np.unique(np.linspace(1, len(episode.frames), MOMENTS).round().astype(int)).tolist()
    memory = Memory.concatenate(memories_of(model, episode, counts))
    seen = enlarge(episode.frames[[count - 1 for count in counts]])
    return frame_strip(np.concatenate([seen, enlarge(heat_map(model, memory))]), len(counts))
