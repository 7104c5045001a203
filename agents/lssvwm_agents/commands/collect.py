"""`lssvwm collect`: play any Gymnasium environment with images and store its episodes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import gymnasium as gym
import tyro
from gymnasium.vector import VectorEnv

from lssvwm_envs.explorers import explorer_named, explorer_names
from lssvwm_envs.image import image_wrapper
from lssvwm_envs.make import EnvSetup, import_module_of
from lssvwm_envs.options import EnvOptions, difference, known_setup, setup_of_store
from lssvwm_rl.data.splits import Split
from lssvwm_rl.policy import Policy, PolicyFactory

if TYPE_CHECKING:
    from lssvwm_rl.model.world_model import WorldModel

EXAMPLE = "lssvwm collect MiniGrid-MemoryS7-v0 --out runs/data --episodes 500"
CURIOUS = "curious"


def _policies() -> str:
    names = ", ".join(explorer_names())
    return f"One of {names}, {CURIOUS}, or the folder of a policy written by `lssvwm agent train`."


@dataclass(frozen=True)
class Collect(EnvOptions):
    """Collect episodes into a store; running it again adds what is missing, from the environment as it was."""

    env: Annotated[str, tyro.conf.Positional]
    """Gymnasium id, for example MiniGrid-MemoryS7-v0."""
    out: Path
    """Folder of the store."""
    episodes: int = 1000
    """Episodes that the store shall hold in the end."""
    policy: Annotated[str, tyro.conf.arg(help=_policies())] = "explore"
    checkpoint: str | None = None
    """World model that the policy curious plans in, to go where it does not know what it will see; for a trained
    policy that reads a memory, where the world model it was trained with is now, if elsewhere."""
    vector: tuple[str, ...] = ()
    """Low-dimensional keys of the observation or of info to record, for example pose."""
    num_envs: int = 16
    """Environments stepped together."""
    seed: int = 0
    """Seed of the first episode, counted inside the split; the others follow."""
    split: Split = "train"
    """Which worlds: no seed is in two splits."""
    ray: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="[ADDRESS]")] = None
    """Collect with one Ray actor per free core of this machine, or of the cluster at an address, for example auto. All
    its machines must find the current folder, and what else is named, under the same paths."""


def main(args: Collect) -> None:
    """Collect.

    Raises:
        ValueError: if the environment has no image or gives what no model can learn, the store holds other episodes,
            there is no such explorer or none for this environment, or a checkpoint is missing, not used, or of another
            environment or agent.
        FileNotFoundError: if there is no such policy or checkpoint.
        gymnasium.error.Error: if there is no such environment.
    """
    from lssvwm_agents.ray_collect import RayJob, ray_collect
    from lssvwm_envs.make import env_spec_json
    from lssvwm_rl.data.collect import collect
    from lssvwm_rl.data.store import EpisodeStore
    from lssvwm_rl.progress import finish, progress_bar, say

    policy_factory = _policy_factory(args.policy, args.checkpoint)
    setup = _setup(args)
    with setup.make() as env:
        spec = env_spec_json(env)
        say(f"Image: {image_wrapper(env).sentence()}{_padding(env)}.")
    have = len(EpisodeStore(args.out)) if (args.out / "header.json").exists() else 0
    with progress_bar(args.env, "episodes") as progress:
        progress(have, args.episodes)
        if args.ray is not None:
            tools = partial(_in_actor, setup, args.policy, args.checkpoint, os.getcwd())
            job = RayJob(
                tools, args.out, args.episodes, args.num_envs, args.seed, args.split, args.vector, spec, args.policy
            )
            store = ray_collect(job, _address(args.ray), lambda made: progress(made, args.episodes))
        else:
            numbers = count(have + 1)
            store = collect(
                setup.make_many,
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
    found = f"{len(store):,} episodes, {steps:,} steps ({store.lengths.mean():.1f} per episode)"
    finish(f"{found} written to {args.out}.", ["lssvwm", "train", "--data", args.out, "--out", "runs/model"])


def _setup(args: Collect) -> EnvSetup:
    """The environment, as that of the store where nothing else is said; a store holds one."""
    known = known_setup(args.env, partial(setup_of_store, args.out))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a difference, which is no warning here
        setup = args.setup(args.env, known)
    if known is not None and (found := difference(known, setup)):
        raise ValueError(f"{args.out} holds episodes of {found}; leave the option out, or choose another folder.")
    return setup


def _in_actor(
    setup: EnvSetup, policy: str, checkpoint: str | None, folder: str
) -> tuple[Callable[[int], VectorEnv], PolicyFactory]:
    """What makes environments and what makes their policy, in a process of its own on whatever machine."""
    os.chdir(folder)  # where files and modules are that are named without a path
    import_module_of(setup.env_id, also_here=True)
    return setup.make_many, _policy_factory(policy, checkpoint)


def _address(words: Sequence[str]) -> str | None:
    if len(words) > 1:
        raise ValueError(f"--ray takes one address, got {' '.join(words)}; name one, or none for this machine alone.")
    return words[0] if words else None


def _padding(env: gym.Env) -> str:
    """To what models pad the image, for the presets that do."""
    from lssvwm_rl.model.config import padded_to
    from lssvwm_rl.spaces import image_shape
    from lssvwm_rl.training.presets import PRESETS

    height, width, _ = image_shape(env.observation_space)
    size = height, width
    by_size: dict[tuple[int, int], list[str]] = {}
    for name, preset in PRESETS.items():
        by_size.setdefault(padded_to(size, preset.model.grid), []).append(name)
    by_size.pop(size, None)
    said = [f"{rows}x{columns} by {', '.join(names)}" for (rows, columns), names in by_size.items()]
    return f"; inside models padded to {' and '.join(said)}" if said else ""


def _policy_factory(policy: str, checkpoint: str | None) -> PolicyFactory:
    """The explorer of that name, the policy in that folder, or the one that plans for doubt in a checkpoint."""
    if policy == CURIOUS:
        return _curious(checkpoint)
    if policy in explorer_names() or not ("/" in policy or Path(policy).exists()):
        if checkpoint is not None:
            raise ValueError(
                f"The policy {policy!r} does not plan in checkpoint {checkpoint!r}; leave --checkpoint out."
            )
        return explorer_named(policy)
    return _trained(policy, checkpoint)


def _trained(folder: str, checkpoint: str | None) -> PolicyFactory:
    """The policy in a folder, with the memory that it was trained on."""
    import torch

    from lssvwm_agents.policies import check_reads, load_policy
    from lssvwm_agents.remembering import RememberingPolicy
    from lssvwm_rl.model.checkpoints import load_engine, vector_keys_of

    saved = load_policy(folder)
    if saved.checkpoint is None and checkpoint is not None:
        raise ValueError(
            f"The policy {folder!r} reads images, not the memory of {checkpoint!r}; leave --checkpoint out."
        )
    named = None if saved.checkpoint is None else checkpoint or saved.checkpoint
    engine = None if named is None else load_engine(named)
    keys: tuple[str, ...] = ()
    if named is not None and engine is not None:
        check_reads(saved, engine.model, with_image=True)
        keys = vector_keys_of(named, engine.model)

    def make(envs: VectorEnv, seed: int) -> Policy:
        torch.manual_seed(seed)  # what Stable-Baselines3 draws actions by
        if engine is None:
            return saved
        _check_fits(engine.model, envs)
        return RememberingPolicy(saved, engine, saved.memory_kind, keys)

    return make


def _curious(checkpoint: str | None) -> PolicyFactory:
    if checkpoint is None:
        raise ValueError("The policy 'curious' plans in a world model; name one with --checkpoint.")
    from lssvwm_agents.planning import curious_policy
    from lssvwm_rl.model.checkpoints import load_engine, vector_keys_of

    engine = load_engine(checkpoint)
    keys = vector_keys_of(checkpoint, engine.model)

    def make(envs: VectorEnv, seed: int) -> Policy:
        _check_fits(engine.model, envs)
        return curious_policy(engine, seed=seed, vector_keys=keys)

    return make


def _check_fits(model: WorldModel, envs: VectorEnv) -> None:
    from lssvwm_rl.model.checkpoints import check_fits
    from lssvwm_rl.spaces import image_shape, space_to_json

    shape = image_shape(envs.single_observation_space)
    check_fits(model.config, shape, space_to_json(envs.single_action_space), "The environment")
