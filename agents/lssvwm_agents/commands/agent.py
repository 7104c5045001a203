"""`lssvwm agent train`: PPO inside the dream; `lssvwm bench agent` plays real environments with what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lssvwm_agents.imagination import DreamTrainConfig, train_in_dream
from lssvwm_rl.progress import progress_bar

RENAMED = {"--max-episode-steps": "--horizon", "--steps": "--total-steps"}
"""Options of before -> what they are called now."""


@dataclass(frozen=True)
class AgentTrain:
    """Train a PPO policy inside the world model, on the readout of its memory."""

    checkpoint: str
    """Folder, packaged name or hub id of the world model."""
    out: Path
    """New folder for the policy."""
    config: Annotated[DreamTrainConfig, tyro.conf.arg(name="")] = DreamTrainConfig()


def main(args: AgentTrain) -> None:
    """Train.

    Raises:
        FileExistsError: if `out` exists.
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the checkpoint is unusable, or settings are out of range.
    """
    with progress_bar("PPO in the dream") as progress:
        train_in_dream(args.checkpoint, args.config, args.out, progress)
    print(f"Policy written to {args.out}.")
