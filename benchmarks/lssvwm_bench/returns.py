"""Returns of several policies in the same test worlds: who plays, and what is shown of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from matplotlib.figure import Figure

from lssvwm_agents.evaluate import EvaluationResult
from lssvwm_agents.planning import cem_policy
from lssvwm_agents.policies import check_reads, load_policy
from lssvwm_bench.results import markdown_table, new_figure
from lssvwm_envs.explorers.maze_walks import seek
from lssvwm_envs.explorers.mazes import MazeExplorer
from lssvwm_envs.memory_maze.env import MemoryMazeEnv
from lssvwm_envs.wrappers import VectorMemoryObservation
from lssvwm_rl.data.play import play
from lssvwm_rl.data.splits import split_seed
from lssvwm_rl.model.checkpoints import check_fits, load_world_model
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.policy import GivenActions, Policy, RandomPolicy
from lssvwm_rl.spaces import image_shape, space_to_json

MAX_PICTURES = 250  # frames of the video


@dataclass(frozen=True)
class Contender:
    """A policy, or what makes one for a vector environment, and what is put around the environment for it."""

    policy: Policy | Callable[[VectorEnv], Policy]
    wrap_vector: Callable[[VectorEnv], VectorEnv] | None = None


def contenders(
    env: gym.Env, seed: int = 0, policy: Path | None = None, planner: str | None = None, device: str = "cpu"
) -> dict[str, Contender]:
    """Who plays: "random", in native mazes "oracle", and what is given of "policy" and "planner".

    Args:
        env: one of the environments to play.
        seed: of random actions and plans.
        policy: folder of a saved policy; if it reads the memory of a world model, that runs beside the environment.
        planner: the world model that is planned in.
        device: of the world models.

    Raises:
        FileNotFoundError: if there is no such policy or checkpoint.
        ValueError: if one of them does not fit the environment.
    """
    name = str(env) if env.spec is None else env.spec.id
    found = {"random": Contender(RandomPolicy(env.action_space, seed))}
    if isinstance(env.unwrapped, MemoryMazeEnv):
        found["oracle"] = Contender(partial(MazeExplorer, seed=seed, walk=seek))
    if policy is not None:
        saved = load_policy(policy)
        if saved.action_space != env.action_space:
            raise ValueError(
                f"The policy at {policy} acts in {saved.action_space}, but {name} has {env.action_space}; choose the "
                "environment it was trained for."
            )
        wrap = None
        if saved.checkpoint is not None:
            check_reads(saved, _fitting_model(saved.checkpoint, env, name, device))
            wrap = partial(VectorMemoryObservation, checkpoint=saved.checkpoint, observation="memory", device=device)
        found["policy"] = Contender(saved, wrap)
    if planner is not None:
        found["planner"] = Contender(cem_policy(_fitting_model(planner, env, name, device), seed=seed))
    return found


def return_table(results: Mapping[str, EvaluationResult], env: str, episodes: int) -> str:
    """Markdown, with a caption."""
    rows = [
        [
            name,
            f"{result.mean_return:.2f} ± {result.return_error:.2f}",
            f"{result.lengths.mean():.0f}",
            f"{result.seconds_per_step:.4f}",
        ]
        for name, result in results.items()
    ]
    table = markdown_table(["policy", "return", "steps per episode", "seconds per step"], rows)
    caption = f"Mean returns ± standard errors over {episodes} test worlds of {env}, the same for every policy."
    return f"{table}\n\n{caption}"


def return_plot(results: Mapping[str, EvaluationResult], env: str) -> Figure:
    """Bars with standard errors."""
    figure, (axes,) = new_figure(1)
    means = [result.mean_return for result in results.values()]
    errors = [result.return_error for result in results.values()]
    axes.bar(list(results), means, yerr=errors, capsize=4, color=[f"C{i}" for i in range(len(means))])
    axes.set(title=env, ylabel="mean return")
    return figure


def replay(env: gym.Env, seed: int, actions: np.ndarray) -> np.ndarray | None:
    """What an episode looked like, rendered: (T, H, W, 3) uint8 of every few steps; closes the environment.

    Args:
        env: with render mode "rgb_array"; otherwise there is nothing to see, None.
        seed: of the world, counted inside the test split, as in `evaluate_policy`.
        actions: (steps, ...), all of the episode's.
    """
    envs = SyncVectorEnv([lambda: env], autoreset_mode=AutoresetMode.DISABLED)
    try:
        if env.render_mode != "rgb_array":
            return None
        every = math.ceil((len(actions) + 1) / MAX_PICTURES)
        events = play(envs, GivenActions(actions[:, None]), [iter([split_seed("test", seed)])])
        pictures: list[Any] = [env.render() for t, _ in enumerate(islice(events, len(actions) + 1)) if t % every == 0]
        return np.stack(pictures)
    finally:
        envs.close()


def _fitting_model(checkpoint: str, env: gym.Env, name: str, device: str) -> WorldModel:
    model = load_world_model(checkpoint, device)
    check_fits(model.config, image_shape(env.observation_space), space_to_json(env.action_space), name)
    return model
