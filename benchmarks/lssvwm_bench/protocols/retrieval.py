"""Predict what comes into view again on the way back."""

from __future__ import annotations

from dataclasses import dataclass

from lssvwm_bench.bench import Findings, bench
from lssvwm_bench.dream_settings import DreamSettings, compare
from lssvwm_bench.dream_trials import FREE_RUNNING, TEACHER_FORCED
from lssvwm_bench.walks import there_and_back
from lssvwm_envs.explorers import explorer_named
from lssvwm_rl.progress import Say

EXAMPLE = "lssvwm bench retrieval --checkpoints maze-memory"


@bench("retrieval")
@dataclass(frozen=True)
class RetrievalBench(DreamSettings):
    """Wander off, walk back, and predict what comes into view again, from all real frames before and dreaming."""

    back: int | None = None
    """Frames of the way back, which are predicted; as many as the context by default."""
    reach: int | None = None
    """Frames within which a pixel counts as seen in the window; the models' largest by default."""

    def run(self, say: Say) -> Findings:
        """See `dream_settings.compare`."""
        frames = self.context if self.back is None else self.back
        explorer = there_and_back(self.context) if self.policy is None else explorer_named(self.policy)
        return compare(self, explorer, frames, (TEACHER_FORCED, FREE_RUNNING), self.reach, say)
