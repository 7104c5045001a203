"""`lssvwm agent train`: PPO inside the dream; `lssvwm bench agent` plays real environments with what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from lssvwm_agents.imagination import DreamTrainConfig, train_in_dream
from lssvwm_envs.options import EnvOptions, known_setup, setup_of_checkpoint
from lssvwm_rl.progress import finish, progress_bar

EXAMPLE = "lssvwm agent train --checkpoint runs/model --out runs/agent"
RENAMED = {"--steps": "--total-steps"}
"""Options of before -> what they are called now."""


@dataclass(frozen=True)
class AgentTrain(EnvOptions):
    """Train a PPO policy inside the world model, on the readout of its memory."""

    checkpoint: str
    """Folder, packaged name or hub id of the world model."""
    out: Path
    """New folder for the policy."""
    env: str | None = None
    """Gymnasium id of the real rows of --real-share, if not the one of the world model's data."""
    config: Annotated[DreamTrainConfig, tyro.conf.arg(name="")] = DreamTrainConfig()


def main(args: AgentTrain) -> None:
    """Train.

    Raises:
        FileExistsError: if `out` exists.
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the checkpoint is unusable, settings are out of range, or the environment of real rows is not
            known or has options without real rows.
        gymnasium.error.Error: if there is no such environment.
    """
    real = None
    if args.config.real_share:
        known = known_setup(args.env, partial(setup_of_checkpoint, args.checkpoint))
        real = args.setup(args.env, known, f"the data of {args.checkpoint}")
    elif args.env is not None or args.given:
        raise ValueError("Options of a real environment do nothing in dreams alone; give --real-share, too.")
    with progress_bar("PPO in the dream", "steps") as progress:
        train_in_dream(args.checkpoint, args.config, args.out, progress, real_env=real)
    finish(f"Policy written to {args.out}.", ["lssvwm", "bench", "agent", "--policy", args.out])
