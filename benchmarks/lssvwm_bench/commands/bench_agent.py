"""`lssvwm bench agent`: what agents collect in test worlds, between random and all-knowing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class BenchAgent:
    """Mean returns of random actions, the oracle of native mazes, a saved policy, and planning in a world model."""

    env: str = "lssvwm/MemoryMaze-9x9-v0"
    """Gymnasium id of the environment to play."""
    env_kwargs: dict[str, str] = field(default_factory=dict)
    """Arguments of the environment as KEY VALUE pairs, for example image_size 32."""
    policy: Path | None = None
    """Folder written by `lssvwm agent train`; it reads the memory of the world model it was trained in."""
    checkpoint: str | None = None
    """Folder, packaged name or hub id of the world model that --planner plans in."""
    planner: bool = False
    """Also play by CEM over the world model."""
    episodes: int = 20
    """Test worlds that every policy plays."""
    num_envs: int = 4
    """Environments stepped together."""
    seed: int = 0
    """First world, counted inside the test split, and seed of random actions and plans."""
    device: str = "cpu"
    """Where world models run."""
    out: Path = Path("runs/bench-agent")
    """New folder for agent.json, agent.md, agent.png and agent.mp4."""


def main(args: BenchAgent) -> None:
    """Play and write.

    Raises:
        FileExistsError: if `out` exists.
        FileNotFoundError: if there is no such checkpoint or policy.
        ValueError: if the environment does not fit them.
        gymnasium.error.Error: if there is no such environment.
    """
    import dataclasses

    import torch

    from lssvwm_agents.evaluate import evaluate_policy
    from lssvwm_bench.results import check_new_folder, write_results
    from lssvwm_bench.returns import contenders, replay, return_plot, return_table
    from lssvwm_envs.make import make_image_env
    from lssvwm_rl.cli import json_value
    from lssvwm_rl.progress import progress_bar

    check_new_folder(args.out)
    if args.planner != (args.checkpoint is not None):
        given = "--planner" if args.planner else f"--checkpoint {args.checkpoint}"
        raise ValueError(
            f"{given} alone does nothing: the planner needs a world model; give --checkpoint and --planner."
        )
    kwargs = {name: json_value(text) for name, text in args.env_kwargs.items()}
    with make_image_env(args.env, **kwargs) as env:
        playing = contenders(env, args.seed, args.policy, args.checkpoint, args.device)
        can_render = "rgb_array" in env.metadata.get("render_modes", ())
    if "oracle" not in playing:
        print(f"{args.env} is no native maze: the oracle is left out.")
    torch.manual_seed(args.seed)  # stochastic policies of Stable-Baselines3 draw from torch's global generator
    results = {}
    for name, contender in playing.items():
        with progress_bar(name) as progress:
            results[name] = evaluate_policy(
                contender.policy,
                lambda: make_image_env(args.env, **kwargs),
                args.episodes,
                args.num_envs,
                args.seed,
                wrap_vector=contender.wrap_vector,
                progress=progress,
            )
    best = max(results, key=lambda name: results[name].mean_return)
    video = None
    if can_render:
        shown = make_image_env(args.env, **{**kwargs, "render_mode": "rgb_array"})
        video = replay(shown, args.seed, results[best].first_actions)
    table = return_table(results, args.env, args.episodes)
    numbers = {name: result.to_json() for name, result in results.items()}
    plot = return_plot(results, args.env)
    write_results(args.out, "agent", {**dataclasses.asdict(args), "video": best}, numbers, table, plot, video)
    print(table)
    print(f"Written to {args.out}.")
