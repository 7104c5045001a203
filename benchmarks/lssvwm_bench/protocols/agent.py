"""Compare random, oracle, policy and planner by their returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from matplotlib.figure import Figure

from lssvwm_agents.evaluate import EvaluationResult, evaluate_policy
from lssvwm_agents.planning import CEMConfig
from lssvwm_bench.bench import Findings, Say, bench
from lssvwm_bench.contenders import contenders
from lssvwm_bench.figures import markdown_table, new_figure, picture_stride, with_error
from lssvwm_envs.make import make_image_env
from lssvwm_rl.cli import json_value
from lssvwm_rl.data.play import play
from lssvwm_rl.data.splits import split_seed
from lssvwm_rl.policy import GivenActions
from lssvwm_rl.progress import progress_bar

RENAMED = {"--planner": "--planner CHECKPOINT"}
"""Options that have changed, see `lssvwm_rl.cli`."""


@bench("agent")
@dataclass(frozen=True)
class AgentBench:
    """Success and returns of random actions, the oracle of native mazes, a saved policy, and planning in a world model,
    all in the same test worlds."""

    env: str = "lssvwm/MemoryMaze-9x9-v0"
    """Gymnasium id of the environment to play."""
    env_kwargs: dict[str, str] = field(default_factory=dict)
    """Arguments of the environment as KEY VALUE pairs, for example image_size 32."""
    policy: Path | None = None
    """Folder written by `lssvwm agent train`; it reads the memory of the world model it was trained in."""
    planner: str | None = None
    """Folder, packaged name or hub id of a world model; also play by CEM over it."""
    checkpoint: str | None = None
    """World model whose memory the policy reads instead of the one it was trained with, for example after moving it."""
    deterministic: bool = False
    """Let the policy take the most likely action instead of sampling."""
    episodes: int = 20
    """Test worlds that every policy plays."""
    num_envs: int = 4
    """Environments stepped together."""
    seed: int = 0
    """First world, counted inside the test split, and seed of random actions and plans."""
    device: str = "cpu"
    """Where world models run."""
    cem: CEMConfig = CEMConfig()
    """How the planner searches."""

    def run(self, say: Say) -> Findings:
        """Play.

        Raises:
            FileNotFoundError: if there is no such checkpoint or policy.
            ValueError: if the environment does not fit them, or for numbers out of range.
            gymnasium.error.Error: if there is no such environment.
        """
        if self.checkpoint is not None and self.policy is None:
            raise ValueError(
                f"--checkpoint {self.checkpoint} alone does nothing: it is the model whose memory a policy reads; "
                "give --policy FOLDER, or --planner CHECKPOINT to plan in it."
            )
        kwargs = {name: json_value(text) for name, text in self.env_kwargs.items()}
        with make_image_env(self.env, **kwargs) as env:
            playing = contenders(env, self.seed, self.policy, self.planner, self.checkpoint, self.cem, self.device)
            can_render = "rgb_array" in env.metadata.get("render_modes", ())
        if "oracle" not in playing:
            say(f"{self.env} is no native maze: the oracle is left out.")
        torch.manual_seed(self.seed)  # stochastic policies of Stable-Baselines3 draw from torch's global generator
        results = {}
        for name, contender in playing.items():
            with progress_bar(name) as progress:
                results[name] = evaluate_policy(
                    contender.policy,
                    lambda: make_image_env(self.env, **kwargs),
                    self.episodes,
                    self.num_envs,
                    self.seed,
                    self.deterministic,
                    wrap_vector=contender.wrap_vector,
                    progress=progress,
                )
        best = max(results, key=lambda name: results[name].mean_return)
        video = None
        if can_render:
            shown = make_image_env(self.env, **{**kwargs, "render_mode": "rgb_array"})
            video = replay(shown, self.seed, results[best].first_actions)
        return Findings(
            {name: result.to_json() for name, result in results.items()},
            return_table(results, self.env, self.episodes),
            return_plot(results, self.env),
            video,
            settings={"video": best},
        )


def return_table(results: Mapping[str, EvaluationResult], env: str, episodes: int) -> str:
    """Markdown, with a caption."""
    rows = [
        [
            name,
            with_error(result.success_rate, result.success_error),
            with_error(result.mean_return, result.return_error),
            f"{result.lengths.mean():.0f}",
            f"{result.seconds_per_step:.4f}",
        ]
        for name, result in results.items()
    ]
    table = markdown_table(["policy", "success", "return", "steps per episode", "seconds per step"], rows)
    caption = (
        f"Means ± standard errors over {episodes} test worlds of {env}, the same for every policy. Success is the "
        "share of episodes with a return above zero."
    )
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
        every = picture_stride(len(actions) + 1)
        events = play(envs, GivenActions(actions[:, None]), [iter([split_seed("test", seed)])])
        pictures: list[Any] = [env.render() for t, _ in enumerate(islice(events, len(actions) + 1)) if t % every == 0]
        return np.stack(pictures)
    finally:
        envs.close()
