"""`lssvwm collect`: play any Gymnasium environment with images and store its episodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Annotated

import tyro
from gymnasium.vector import VectorEnv

from lssvwm_envs.explorers import explorer_named, explorer_names
from lssvwm_rl.data.splits import Split
from lssvwm_rl.policy import Policy, PolicyFactory

CURIOUS = "curious"


def _policies() -> str:
    names = ", ".join(explorer_names())
    return f"One of {names}, {CURIOUS}, or the folder of a policy written by `lssvwm agent train`."


@dataclass(frozen=True)
class Collect:
    """Collect episodes into a store; running it again adds what is missing."""

    env: Annotated[str, tyro.conf.Positional]
    """Gymnasium id, for example MiniGrid-MemoryS7-v0."""
    out: Path
    """Folder of the store."""
    episodes: int = 1000
    """Episodes that the store shall hold in the end."""
    policy: Annotated[str, tyro.conf.arg(help=_policies())] = "explore"
    checkpoint: str | None = None
    """World model that the policy curious plans in, to go where it does not know what it will see."""
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
        ValueError: if the environment has no image, the store holds other episodes, or there is no such explorer or
            none for this environment, or a checkpoint is missing, not used, or of another environment.
        FileNotFoundError: if there is no such policy or checkpoint.
        gymnasium.error.Error: if there is no such environment.
    """
    from lssvwm_envs.make import image_envs, make_image_env
    from lssvwm_rl.cli import json_value
    from lssvwm_rl.data.collect import collect
    from lssvwm_rl.data.store import EpisodeStore
    from lssvwm_rl.progress import progress_bar

    policy_factory = _policy_factory(args.policy, args.checkpoint)
    kwargs = {name: json_value(text) for name, text in args.env_kwargs.items()}
    with make_image_env(args.env, **kwargs) as env:
        spec = None if env.spec is None else env.spec.to_json()
    have = len(EpisodeStore(args.out)) if (args.out / "header.json").exists() else 0
    numbers = count(have + 1)
    with progress_bar(args.env) as progress:
        progress(have, args.episodes)
        store = collect(
            image_envs(args.env, **kwargs),
            policy_factory,
            args.out,
            args.episodes,
            args.num_envs,
            args.seed,
            args.split,
            args.vector,
            spec,
            args.policy,
            on_episode=lambda _: progress(next(numbers), args.episodes),
        )
    steps = int(store.lengths.sum())
    print(f"{args.out}: {len(store)} episodes, {steps} steps, {store.lengths.mean():.1f} per episode.")


def _policy_factory(policy: str, checkpoint: str | None) -> PolicyFactory:
    """The explorer of that name, the policy in that folder, or the one that plans for doubt in a checkpoint."""
    if policy == CURIOUS:
        return _curious(checkpoint)
    if checkpoint is not None:
        raise ValueError(f"The policy {policy!r} does not plan in checkpoint {checkpoint!r}; leave --checkpoint out.")
    if policy in explorer_names() or not ("/" in policy or Path(policy).exists()):
        return explorer_named(policy)
    from lssvwm_agents.policies import load_policy

    saved = load_policy(policy)
    return lambda envs, seed: saved


def _curious(checkpoint: str | None) -> PolicyFactory:
    if checkpoint is None:
        raise ValueError("The policy 'curious' plans in a world model; name one with --checkpoint.")
    from lssvwm_agents.planning import curious_policy
    from lssvwm_rl.model.checkpoints import check_fits, load_engine
    from lssvwm_rl.spaces import image_shape, space_to_json

    engine = load_engine(checkpoint)

    def make(envs: VectorEnv, seed: int) -> Policy:
        shape = image_shape(envs.single_observation_space)
        check_fits(engine.model.config, shape, space_to_json(envs.single_action_space), "The environment")
        return curious_policy(engine, seed=seed)

    return make
