"""Exchange one thing seen long ago, and see whether outputs follow."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lssvwm_bench.bench import Findings, bench
from lssvwm_bench.lineup import described, load_lineup, shared_reach
from lssvwm_bench.paired_figures import paired_figure, paired_table
from lssvwm_bench.walks import fitting_environment
from lssvwm_envs.options import EnvOptions
from lssvwm_envs.paired.record import record_pairs
from lssvwm_envs.paired.twins import TwinConfig
from lssvwm_rl.measures.paired import paired_answers, paired_shares
from lssvwm_rl.progress import Say, progress_bar

EXAMPLE = "lssvwm bench paired --checkpoints minigrid-memory"


@bench("paired")
@dataclass(frozen=True)
class PairedBench(EnvOptions):
    """Two histories differ in one thing seen long ago and agree in all that a window sees: do outputs differ as reality
    does, do they follow a memory that is exchanged, and are they at chance once it is wiped?"""

    checkpoints: tuple[str, ...] = ("minigrid-memory",)
    """Folders, packaged names or hub ids of world models of one environment, compared side by side."""
    pairs: int = 64
    """Worlds of the test split that are played, each beside its twin; histories that show nothing are left out."""
    env: str | None = None
    """Gymnasium id of MiniGrid-Memory or a native maze, if not the one that the models were trained in."""
    reach: int | None = None
    """Frames, the compared one included, within which histories have to agree; the models' largest by default."""
    away: int | None = None
    """Steps at least for which walks stay away from what differs; as many as the reach by default."""
    steps: int = 128
    """Steps of a walk through a maze."""
    denoise_steps: int = 4
    """Network passes per predicted frame."""
    batch: int = 32
    """Pairs side by side."""
    seed: int = 0
    """First world of the test split, and the walks'."""
    device: str = "cpu"
    """Where the world models run."""

    def run(self, say: Say) -> Findings:
        """Play twins, cut pairs, and ask every model.

        Raises:
            FileNotFoundError: if there is no such checkpoint.
            ValueError: if nothing exchanges a thing in the environment, it does not fit the checkpoints, no histories
                make a pair, or for numbers out of range.
            gymnasium.error.Error: if there is no such environment.
        """
        numbers = (self.pairs, self.steps, self.denoise_steps, self.batch, 1 if self.away is None else self.away)
        if min(numbers) < 1:
            raise ValueError(f"Pairs, steps, denoise steps, batch and away must be at least 1, not {numbers}.")
        if self.reach is not None and self.reach < 2:
            raise ValueError(f"Histories have to agree before the compared frame: use a reach of 2, not {self.reach}.")
        lineup = load_lineup(self.checkpoints, self.device)
        setup = fitting_environment(lineup, self.env, self)
        if setup.image is not None or setup.resize is not None or setup.seeds:
            raise ValueError(
                f"Twins are played as {setup.env_id} shows them, in the split's worlds; leave --image, --resize and "
                "--seeds out."
            )
        # A model without attention reaches its own frame only, and pairs need one before.
        reach = max(2, shared_reach(lineup.models.values())) if self.reach is None else self.reach
        away = reach if self.away is None else self.away
        config = TwinConfig(reach - 1, away, self.steps, self.seed, lineup.vector_keys)
        say(f"playing {self.pairs} test worlds of {setup.env_id} and their twins")
        pairs = record_pairs(setup.env_id, setup.kwargs, self.pairs, config, self.seed)
        if not pairs:
            raise ValueError(
                f"In {self.pairs} worlds no histories agree in {reach - 1} frames and then differ again; take a "
                "smaller --reach, or another --away."
            )
        answers, rows = {}, []
        for name, model in lineup.models.items():
            say(f"{name}: {len(pairs)} pairs")
            with progress_bar("answer", "pairs") as bar:
                answers[name] = paired_answers(model, pairs, self.denoise_steps, self.batch, bar)
            rows.append({**described(name, model), **asdict(paired_shares(pairs, answers[name]))})
        agreement = float(np.median([pair.agreement for pair in pairs]))
        results: dict[str, Any] = {"worlds": self.pairs, "reach": reach, "agreement": agreement, "rows": rows}
        figure = paired_figure(pairs, *next(iter(answers.items())))
        settings = {**setup.to_json(), "away": away}
        return Findings(results, paired_table(results), figure, settings=settings)
