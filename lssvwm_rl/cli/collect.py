"""`lssvwm collect`: play any Gymnasium environment with images and store its episodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


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
    """random, explore, or the folder of a policy written by `lssvwm agent train`."""
    vector: tuple[str, ...] = ()
    """Low-dimensional keys of the observation or of info to record, for example pose."""
    num_envs: int = 16
    """Environments stepped together."""
    seed: int = 0
    """Seed of the first episode; the others follow."""


def main(args: Collect) -> None:
    """Collect.

    Raises:
        ValueError: if the environment has no image, or the store holds other episodes.
        FileNotFoundError: if there is no such policy.
        gymnasium.error.Error: if there is no such environment.
    """
    from collections.abc import Callable

    from gymnasium.vector import VectorEnv
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from lssvwm_envs.explorers import make_explorer
    from lssvwm_envs.minigrid import make_image_env
    from lssvwm_rl.data.collect import Policy, RandomPolicy, collect
    from lssvwm_rl.data.store import EpisodeStore

    factories: dict[str, Callable[[VectorEnv, int], Policy]] = {
        "random": lambda envs, seed: RandomPolicy(envs.single_action_space, seed),
        "explore": make_explorer,
    }
    if args.policy not in factories:
        from lssvwm_agents.policies import load_policy

        policy = load_policy(args.policy)
        factories[args.policy] = lambda envs, seed: policy
    with make_image_env(args.env) as env:
        spec = None if env.spec is None else env.spec.to_json()
    have = len(EpisodeStore(args.out)) if (args.out / "header.json").exists() else 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(args.env, total=args.episodes, completed=have)
        store = collect(
            lambda: make_image_env(args.env),
            factories[args.policy],
            args.out,
            args.episodes,
            args.num_envs,
            args.seed,
            args.vector,
            spec,
            args.policy,
            on_episode=lambda _: bar.advance(task),
        )
    steps = int(store.lengths.sum())
    print(f"{args.out}: {len(store)} episodes, {steps} steps, {store.lengths.mean():.1f} per episode.")
