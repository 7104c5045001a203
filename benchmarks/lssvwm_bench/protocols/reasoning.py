"""Dream on after hundreds of frames of context."""

from __future__ import annotations

from dataclasses import dataclass

from lssvwm_bench.bench import Findings, bench
from lssvwm_bench.dream_settings import DreamSettings, compare
from lssvwm_bench.dream_trials import FREE_RUNNING
from lssvwm_bench.walks import then_restless
from lssvwm_envs.explorers import explorer_named
from lssvwm_rl.progress import Say

EXAMPLE = "lssvwm bench reasoning --checkpoints maze-memory"


@bench("reasoning")
@dataclass(frozen=True)
class ReasoningBench(DreamSettings):
    """Explore for long, then dream on along random actions."""

    context: int = 576
    """Real frames observed before the dream."""
    trials: int = 16
    """Worlds of the test split that are played."""
    steps: int = 224
    """Dreamt frames."""
    reach: int | None = None
    """Frames within which a pixel counts as seen in the window; the models' largest by default."""

    def run(self, say: Say) -> Findings:
        """See `dream_settings.compare`."""
        explorer = then_restless(explorer_named(self.policy or "explore"), self.context)
        return compare(self, explorer, self.steps, (FREE_RUNNING,), self.reach, say)
