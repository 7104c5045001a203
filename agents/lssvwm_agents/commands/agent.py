"""`lssvwm agent train|eval`: PPO inside the dream, then the same policy in the real environment."""

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


@dataclass(frozen=True)
class AgentEval:
    """Play a real environment with a trained policy, next to random actions."""

    policy: Path
    """Folder written by `lssvwm agent train`."""
    env: str
    """Gymnasium id of the environment to play."""
    episodes: int = 100
    """Episodes played by each policy."""
    num_envs: int = 8
    """Environments stepped together."""
    seed: int = 0
    """First episode seed, and the random policy's."""
    deterministic: bool = False
    """Take the most likely action instead of sampling."""
    checkpoint: str | None = None
    """World model to use instead of the one the policy was trained with, for example after moving it."""
    device: str = "cpu"
    """Where the world model runs."""
    out: Path | None = None
    """JSON file for the results; must not exist."""


def main(args: AgentTrain | AgentEval) -> None:
    """Train or evaluate.

    Raises:
        ValueError: if something would be overwritten, or shapes do not fit.
        FileNotFoundError: if there is no such checkpoint or policy.
        gymnasium.error.Error: if there is no such environment.
    """
    if isinstance(args, AgentTrain):
        _train(args)
    else:
        _evaluate(args)


def _train(args: AgentTrain) -> None:
    from lssvwm_agents.imagination import DreamTrainConfig, shown_on, train_in_dream
    from lssvwm_rl.progress import progress_bar

    config = DreamTrainConfig(
        total_steps=args.steps,
        num_envs=args.num_envs,
        max_episode_steps=args.max_episode_steps,
        denoise_steps=args.denoise_steps,
        seed=args.seed,
        device=args.device,
    )
    with progress_bar("PPO in the dream") as progress:
        train_in_dream(args.checkpoint, config, args.out, shown_on(progress))
    print(f"Policy written to {args.out}.")


def _evaluate(args: AgentEval) -> None:
    from functools import partial

    import torch

    from lssvwm_agents.evaluate import evaluate_policy, print_results, write_results
    from lssvwm_agents.policies import check_new, check_reads, load_policy
    from lssvwm_envs.make import make_image_env
    from lssvwm_envs.wrappers import VectorMemoryObservation
    from lssvwm_rl.model.checkpoints import check_fits, load_world_model
    from lssvwm_rl.policy import Policy, RandomPolicy
    from lssvwm_rl.progress import progress_bar
    from lssvwm_rl.spaces import image_shape, space_to_json

    if args.out is not None:
        check_new(args.out)
    policy = load_policy(args.policy)
    checkpoint = args.checkpoint or policy.checkpoint
    with make_image_env(args.env) as env:
        action_space, frame_shape = env.action_space, image_shape(env.observation_space)
    if action_space != policy.action_space:
        raise ValueError(
            f"The policy at {args.policy} acts in {policy.action_space}, but {args.env} has {action_space}; "
            "choose the environment it was trained for."
        )
    wrap = None
    if checkpoint is not None:
        model = load_world_model(checkpoint, args.device)
        check_fits(model.config, frame_shape, space_to_json(action_space), args.env)
        check_reads(policy, model)
        wrap = partial(VectorMemoryObservation, checkpoint=checkpoint, observation="memory", device=args.device)
    torch.manual_seed(args.seed)  # stochastic policies of Stable-Baselines3 draw from torch's global generator
    results = {}
    actors: dict[str, Policy] = {"random": RandomPolicy(action_space, args.seed), "agent": policy}
    for name, actor in actors.items():
        with progress_bar(name) as progress:
            results[name] = evaluate_policy(
                actor,
                lambda: make_image_env(args.env),
                args.episodes,
                args.num_envs,
                args.seed,
                args.deterministic,
                wrap_vector=wrap if name == "agent" else None,
                progress=progress,
            )
    print_results(f"{args.env}, {args.episodes} episodes", results)
    if args.out is not None:
        about = {"env": args.env, "policy": str(args.policy), "checkpoint": checkpoint, "seed": args.seed}
        write_results(args.out, about, results)
