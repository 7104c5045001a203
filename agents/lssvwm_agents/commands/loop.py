"""`lssvwm agent loop`: collect, fit a world model, train an agent in its dreams, let it play, and again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lssvwm_agents.loop import LoopConfig, loop
from lssvwm_agents.loop.outcome import best_of
from lssvwm_rl.progress import finish

EXAMPLE = "lssvwm agent loop --env MiniGrid-MemoryS7-v0 --out runs/loop"


@dataclass(frozen=True)
class AgentLoop:
    """Train an agent in the dreams of a world model that learns from what the agent finds; repeat to go on."""

    env: str
    """Gymnasium id of the real environment."""
    out: Path
    """Folder of all that the loop makes; the same command goes on where it was interrupted."""
    checkpoint: str | None = None
    """Folder, packaged name or hub id of a world model to begin with; without, one begins from nothing."""
    data: Path | None = None
    """Store of real episodes to begin with."""
    config: Annotated[LoopConfig, tyro.conf.arg(name="")] = LoopConfig()


def main(args: AgentLoop) -> None:
    """Run the loop.

    Raises:
        ValueError: if `out` is a loop of other settings, or something does not fit the environment.
        FileNotFoundError: if there is no such checkpoint.
        gymnasium.error.Error: if there is no such environment.
    """
    best = best_of(loop(args.env, args.out, args.config, args.checkpoint, args.data))
    agent = args.out / "agent"
    finish(
        f"The agent of round {best.round}, piece {best.piece}, with real return {best.real_return:.3f} ± "
        f"{best.real_error:.3f}, written to {agent}.",
        ["lssvwm", "bench", "agent", "--env", args.env, "--policy", agent],
    )
