"""`lssvwm agent baseline`: PPO in the real environment; `lssvwm bench agent` compares what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lssvwm_agents.baselines import BaselineConfig, train_baseline
from lssvwm_rl.progress import finish, progress_bar

EXAMPLE = "lssvwm agent baseline --env MiniGrid-MemoryS7-v0 --out runs/baseline"
RENAMED = {"--total-steps": "--steps"}
"""Options that other commands have -> what they are called here."""


@dataclass(frozen=True)
class AgentBaseline:
    """Train a PPO policy in the real environment, to compare with; the same command resumes."""

    out: Path
    """Folder of the policy; a training that is there already is continued."""
    config: Annotated[BaselineConfig, tyro.conf.arg(name="")]


def main(args: AgentBaseline) -> None:
    """Train.

    Raises:
        ValueError: if `out` holds something else, or settings are out of range.
        FileNotFoundError: if there is no such checkpoint.
        gymnasium.error.Error: if there is no such environment, or sb3-contrib is missing.
    """
    with progress_bar(f"PPO, {args.config.kind}", "steps") as progress:
        model = train_baseline(args.config, args.out, progress)
    text = f"Policy of {model.num_timesteps:,} real steps written to {args.out}."
    finish(text, ["lssvwm", "bench", "agent", "--policy", args.out])
