"""How well planners choose when the goal is within their horizon: real episodes are played as they were recorded until
a few steps before their end, and a planner goes on from there, with the memory of what came before.

python benchmarks/studies/planning_reach.py --data STORE --checkpoint C [--left 6] [--searches cem icem] [--critic A]

The store's episodes have seeds (`lssvwm collect` keeps them), and their environment is deterministic.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro

from lssvwm_agents.planning import PLANNERS, PlannerPolicy, PlannerState, WorldModelDynamics, critic_value
from lssvwm_agents.policies import load_policy
from lssvwm_bench.figures import markdown_table
from lssvwm_envs.make import make_image_env
from lssvwm_rl.data.store import Episode, EpisodeStore
from lssvwm_rl.measures.intervals import wilson_interval
from lssvwm_rl.model.checkpoints import check_fits, load_engine
from lssvwm_rl.model.engine import Engine
from lssvwm_rl.model.predict import observe_episodes
from lssvwm_rl.spaces import image_key, image_of


@dataclass(frozen=True)
class Args:
    """What is played, and how hard planners search."""

    data: Path
    """Store of episodes that the checkpoint was not trained on."""
    checkpoint: str = "minigrid-memory"
    env: str = "MiniGrid-MemoryS7-v0"
    searches: tuple[str, ...] = ("cem",)
    """Names of planners."""
    critic: Path | None = None
    """Agent of the same world model, whose value function judges what comes after the horizon."""
    episodes: int = 50
    """At most; those are taken that terminated, and are long enough."""
    left: int = 6
    """Steps before its end at which a planner takes over an episode."""
    limit: int = 32
    """Steps that it may take."""
    horizon: int = 8
    samples: int = 64
    iterations: int = 2
    denoise_steps: int = 1
    wiped: bool = False
    """Whether the memory of what came before is wiped at the takeover."""
    threads: int = 1


def main(args: Args) -> None:
    """Print success, and the time that a decision takes.

    Raises:
        FileNotFoundError: if there is no such checkpoint, store or agent.
        ValueError: if they do not belong together, or no episode is long enough.
    """
    torch.set_num_threads(args.threads)
    store, engine = EpisodeStore(args.data), load_engine(args.checkpoint)
    check_fits(engine.model.config, store.header.frame_shape, store.header.action_space, str(args.data))
    episodes = [e for e in store if e.terminated and len(e) > args.left][: args.episodes]
    if not episodes:
        raise ValueError(f"No episode of {args.data} terminated after more than {args.left} steps; use a smaller left.")
    rows = []
    for name in args.searches:
        policy = planner(engine, name, args)
        won, ended, seconds = np.array([go_on(policy, episode, args) for episode in episodes]).T
        low, high = wilson_interval(int(won.sum()), len(won))
        shares = [
            f"{won.mean():.2f} ({low:.2f} to {high:.2f})",
            f"{(ended - won).mean():.2f}",
            f"{1 - ended.mean():.2f}",
        ]
        rows.append([name, *shares, f"{1e3 * seconds.mean():.0f}"])
    print(f"{args.checkpoint}, {len(episodes)} episodes, taken over {args.left} steps before their end")
    print(markdown_table(["search", "success (95 %)", "wrong end", "no end", "ms per decision"], rows))


def planner(engine: Engine, name: str, args: Args) -> PlannerPolicy[Any]:
    """One of `PLANNERS`, if wanted with a critic."""
    value = None if args.critic is None else critic_value(load_policy(args.critic), engine.model)
    dynamics = WorldModelDynamics(engine, denoise_steps=args.denoise_steps, terminal_value=value)
    config, make = PLANNERS[name]
    settings: dict[str, Any] = {"horizon": args.horizon, "samples": args.samples}
    names = config.__dataclass_fields__
    settings |= {"iterations": args.iterations} if "iterations" in names else {}
    settings |= {"elites": min(8, args.samples)} if "elites" in names else {}
    return PlannerPolicy(engine, make(config(**settings), dynamics.action_space), dynamics)


def go_on(policy: PlannerPolicy[Any], episode: Episode, args: Args) -> tuple[bool, bool, float]:
    """Play an episode's beginning as it was, and the rest by a planner: whether it succeeds, whether it ends within the
    limit, and seconds a decision."""
    with make_image_env(args.env) as env:
        taken = len(episode) - args.left
        key, observation, state = image_key(env.observation_space), replay(env, episode, taken), None
        if not args.wiped:  # the state of a planner that has seen all frames but the present one
            memory, last = observe_episodes(policy.engine, [episode.cut(0, taken)]), episode.actions[taken - 1 : taken]
            state = PlannerState(memory, torch.from_numpy(last), policy.planner.prior(1), calls=0)
        spent, reward, terminated = [], 0.0, False
        for _ in range(args.limit):
            began = time.perf_counter()
            action, state = policy.predict(image_of(observation, key)[None], state)
            spent.append(time.perf_counter() - began)
            observation, reward, terminated, truncated, _ = env.step(action[0])
            if terminated or truncated:
                break
        return float(reward) > 0, terminated, float(np.mean(spent))


def replay(env: gym.Env, episode: Episode, steps: int) -> Any:
    """The observation after an episode's first steps.

    Raises:
        ValueError: if the environment shows something else than what was recorded.
    """
    observation, _ = env.reset(seed=episode.seed)
    for action in episode.actions[:steps]:
        observation = env.step(action)[0]
    if not np.array_equal(image_of(observation, image_key(env.observation_space)), episode.frames[steps]):
        raise ValueError(
            f"The episode of seed {episode.seed} cannot be played again: the environment shows another frame."
        )
    return observation


if __name__ == "__main__":
    main(tyro.cli(Args))
