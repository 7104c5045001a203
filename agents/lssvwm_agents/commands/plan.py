"""`lssvwm plan`: act in a real environment by searching the world model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Plan:
    """Play a real environment with CEM over the world model, next to random actions."""

    checkpoint: str
    """Folder, packaged name or hub id of the world model."""
    env: str
    """Gymnasium id of the environment to play."""
    episodes: int = 20
    """Episodes played by each policy."""
    horizon: int = 12
    """Steps looked ahead."""
    samples: int = 64
    """Action sequences scored per iteration."""
    elites: int = 8
    """Best sequences that the next iteration is drawn around."""
    iterations: int = 3
    """Iterations per step."""
    num_envs: int = 4
    """Environments stepped together."""
    seed: int = 0
    """First episode seed, and the planner's."""
    device: str = "cpu"
    """Where the world model runs."""
    out: Path | None = None
    """JSON file for the results; must not exist."""


def main(args: Plan) -> None:
    """Evaluate both policies and print a table.

    Raises:
        ValueError: if the environment does not fit the checkpoint.
        FileExistsError: if `out` exists.
        FileNotFoundError: if there is no such checkpoint.
        gymnasium.error.Error: if there is no such environment.
    """
    from lssvwm_agents.evaluate import evaluate_policy, print_results, progress_bar, write_results
    from lssvwm_agents.planning import CEMConfig, cem_policy
    from lssvwm_envs.make import make_image_env
    from lssvwm_rl.files import check_new
    from lssvwm_rl.model.checkpoints import check_fits, load_world_model
    from lssvwm_rl.policy import Policy, RandomPolicy
    from lssvwm_rl.spaces import image_shape, space_to_json

    if args.out is not None:
        check_new(args.out)
    config = CEMConfig(args.horizon, args.samples, args.elites, args.iterations)
    model = load_world_model(args.checkpoint, args.device)
    with make_image_env(args.env) as env:
        action_space = env.action_space
        check_fits(model.config, image_shape(env.observation_space), space_to_json(action_space), args.env)
    policies: dict[str, Policy] = {
        "random": RandomPolicy(action_space, args.seed),
        "planner": cem_policy(model, config, args.seed),
    }
    results = {}
    for name, policy in policies.items():
        with progress_bar(name) as progress:
            results[name] = evaluate_policy(
                policy, lambda: make_image_env(args.env), args.episodes, args.num_envs, args.seed, progress=progress
            )
    print_results(f"{args.env}, {args.episodes} episodes", results)
    if args.out is not None:
        write_results(args.out, {"env": args.env, "checkpoint": args.checkpoint, "seed": args.seed}, results)
