"""`lssvwm collect`: play any Gymnasium environment with images and store its episodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from lssvwm_rl.data.splits import Split


@dataclass(frozen=True)
class Collect:
    """Collect episodes into a store; running it again adds what is missing."""

    env: Annotated[str, tyro.conf.Positional]
    """Gymnasium id, for example MiniGrid-MemoryS7-v0."""
    out: Path
    """Folder of the store."""
    episodes: int = 1000
    """Episodes that the store shall hold in the end."""
    policy: str = "explore"
    """random, explore, the folder of a policy written by `lssvwm agent train`; for MemoryMaze also wander, frontier,
    oracle, walk-back, patrol, look-around."""
    vector: tuple[str, ...] = ()
    """Low-dimensional keys of the observation or of info to record, for example pose."""
    num_envs: int = 16
    """Environments stepped together."""
    seed: int = 0
    """Seed of the first episode, counted inside the split; the others follow."""
    split: Split = "train"
    """Which worlds: no seed is in two splits."""
    env_kwargs: dict[str, str] = field(default_factory=dict)
    """Arguments of the environment as KEY VALUE pairs, for example image_size 32."""


def main(args: Collect) -> None:
    """Collect.

    Raises:
        ValueError: if the environment has no image, or the store holds other episodes.
        FileNotFoundError: if there is no such policy.
        gymnasium.error.Error: if there is no such environment.
    """
    from gymnasium.vector import VectorEnv
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from lssvwm_envs.explorers import explorer_named
    from lssvwm_envs.make import image_envs, make_image_env
    from lssvwm_rl.cli import json_value
    from lssvwm_rl.data.collect import collect
    from lssvwm_rl.data.store import EpisodeStore
    from lssvwm_rl.policy import Policy

    explorer = explorer_named(args.policy)
    if explorer is None:
        from lssvwm_agents.policies import load_policy

        policy = load_policy(args.policy)

        def explorer(envs: VectorEnv, seed: int) -> Policy:
            return policy

    kwargs = {name: json_value(text) for name, text in args.env_kwargs.items()}
    with make_image_env(args.env, **kwargs) as env:
        spec = None if env.spec is None else env.spec.to_json()
    have = len(EpisodeStore(args.out)) if (args.out / "header.json").exists() else 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(args.env, total=args.episodes, completed=have)
        store = collect(
            image_envs(args.env, **kwargs),
            explorer,
            args.out,
            args.episodes,
            args.num_envs,
            args.seed,
            args.split,
            args.vector,
            spec,
            args.policy,
            on_episode=lambda _: bar.advance(task),
        )
    steps = int(store.lengths.sum())
    print(f"{args.out}: {len(store)} episodes, {steps} steps, {store.lengths.mean():.1f} per episode.")
