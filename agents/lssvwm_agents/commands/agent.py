"""`lssvwm agent train`: PPO inside the dream."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AgentTrain:
    """Train a PPO policy inside the world model, reading its memory."""

    checkpoint: str
    """Folder, packaged name or hub id of the world model."""
    out: Path
    """New folder for the policy."""
    steps: int = 200_000
    """Dreamt steps over all environments."""
    num_envs: int = 128
    """Dreams that run together."""
    max_episode_steps: int = 64
    """Dreams are cut after so many steps."""
    denoise_steps: int = 4
    """Network passes per dreamt frame; with 1, agents exploit the blur."""
    seed: int = 0
    """Seeds networks, dreams and actions."""
    device: str = "cpu"
    """Where the world model runs."""


def main(args: AgentTrain) -> None:
    """Train.

    Raises:
        ValueError: if something would be overwritten, or settings are out of range.
        FileNotFoundError: if there is no such checkpoint.
    """
    from lssvwm_agents.evaluate import progress_bar
    from lssvwm_agents.imagination import DreamTrainConfig, train_in_dream

    config = DreamTrainConfig(
        total_steps=args.steps,
        num_envs=args.num_envs,
        max_episode_steps=args.max_episode_steps,
        denoise_steps=args.denoise_steps,
        seed=args.seed,
        device=args.device,
    )
    with progress_bar("PPO in the dream") as progress:
        train_in_dream(args.checkpoint, config, args.out, progress)
    print(f"Policy written to {args.out}.")
