"""Compare random, oracle, policies of several seeds and planners by their success and returns."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from lssvwm_agents.evaluate import EvaluationResult, evaluate_policy
from lssvwm_agents.planning import PLANNERS, CEMConfig, ICEMConfig, MPPIConfig, PlannerConfig, ShootingConfig
from lssvwm_agents.policies import setup_of_policy
from lssvwm_bench.bench import Findings, bench
from lssvwm_bench.contenders import ORACLE, Contender, contenders, policy_folder
from lssvwm_bench.figures import picture_stride
from lssvwm_bench.standings import Standing, standings_plot, standings_table
from lssvwm_envs.make import EnvSetup
from lssvwm_envs.options import EnvOptions, known_setup, setup_of_checkpoint
from lssvwm_rl.data.play import play
from lssvwm_rl.data.splits import split_seed
from lssvwm_rl.policy import GivenActions
from lssvwm_rl.progress import Say, progress_bar

EXAMPLE = "lssvwm bench agent --policy runs/agent --episodes 100"
MAZE = "lssvwm/MemoryMaze-9x9-v0"
RENAMED = {"--planner": "--planner CHECKPOINT"}
"""Options that have changed, see `lssvwm_rl.cli`."""


@bench("agent")
@dataclass(frozen=True)
class AgentBench(EnvOptions):
    """Success and returns of random actions, the oracle of native mazes and of MiniGrid-Memory, saved policies of one
    or several seeds, and planning in a world model, all in the same test worlds."""

    env: str | None = None
    """Gymnasium id of the environment to play, if not the one of the planner's or the policies' data;
    lssvwm/MemoryMaze-9x9-v0 if there are none."""
    policy: tuple[str, ...] = ()
    """Folders written by `lssvwm agent train` or `lssvwm agent baseline`, or NAME=FOLDER; folders of one name are seeds
    of the same agent. A policy that reads the memory of a world model has it beside the environment."""
    planner: str | None = None
    """Folder, packaged name or hub id of a world model; also play by searching in it."""
    critic: str | None = None
    """Folder of an agent of the planner's world model, whose value function judges what comes after the horizon."""
    checkpoint: str | None = None
    """World model whose memory policies read instead of the one they were trained with, for example after moving it."""
    deterministic: bool = False
    """Let policies take the most likely action instead of sampling."""
    episodes: int = 200
    """Test worlds that every policy plays."""
    num_envs: int = 4
    """Environments stepped together."""
    seed: int = 0
    """First world, counted inside the test split, and seed of random actions and plans."""
    device: str = "cpu"
    """Where world models run."""
    search: Annotated[str, tyro.conf.arg(metavar="|".join(PLANNERS))] = "cem"
    """What the planner searches with; the options of the same name are its settings."""
    cem: CEMConfig = CEMConfig()
    """The cross-entropy method."""
    icem: ICEMConfig = ICEMConfig()
    """The improved cross-entropy method."""
    mppi: MPPIConfig = MPPIConfig()
    """Model predictive path integral control."""
    shooting: ShootingConfig = ShootingConfig()
    """Random shooting."""

    def run(self, say: Say) -> Findings:
        """Play.

        Raises:
            FileNotFoundError: if there is no such checkpoint or policy.
            ValueError: if the environment does not fit them, for numbers out of range, or settings without effect.
            gymnasium.error.Error: if there is no such environment.
        """
        search, setup = self.chosen_search(), self.chosen_setup()
        with setup.make() as env:
            playing = contenders(
                env, self.seed, self.policy, self.planner, self.checkpoint, search, self.device, self.critic
            )
            can_render = "rgb_array" in env.metadata.get("render_modes", ())
        if ORACLE not in playing:
            say(f"{setup.env_id} is neither a native maze nor MiniGrid-Memory: the oracle is left out.")
        standings = {
            name: Standing(seeds, tuple(self._play(f"{name} {i}", seed, setup.make) for i, seed in enumerate(seeds)))
            for name, seeds in playing.items()
        }
        video, best = None, max(standings, key=lambda name: standings[name].returns.mean)
        if can_render:
            first = max(standings[best].results, key=lambda result: result.mean_return).first_actions
            video = replay(setup.make(render_mode="rgb_array"), self.seed, first)
        return Findings(
            {name: standing.to_json() for name, standing in standings.items()},
            standings_table(standings, setup.env_id),
            standings_plot(standings, setup.env_id),
            video,
            settings={**setup.to_json(), "video": best},
        )

    def _play(self, name: str, contender: Contender, make: Callable[[], gym.Env]) -> EvaluationResult:
        # Stochastic policies of Stable-Baselines3 draw from torch's global generator: nobody's draws depend on others.
        torch.manual_seed(self.seed)
        with progress_bar(name, "episodes") as progress:
            return evaluate_policy(
                contender.policy,
                make,
                self.episodes,
                self.num_envs,
                self.seed,
                self.deterministic,
                wrap_vector=contender.wrap_vector,
                progress=progress,
            )

    def chosen_setup(self) -> EnvSetup:
        """The environment to play: as it was for the planner's data, or for that of the first policy that says it.

        Raises:
            FileNotFoundError: if there is no such checkpoint or policy.
            ValueError: if the environment that is known cannot be made.
        """
        known, of = None, self.planner or ""
        if self.planner is not None:
            known = known_setup(self.env, partial(setup_of_checkpoint, self.planner))
        for of in self.policy if known is None else ():
            known = known_setup(self.env, partial(setup_of_policy, policy_folder(of), self.checkpoint))
            if known is not None:
                break
        setup = self.setup(self.env if known is not None else self.env or MAZE, known, f"the data of {of}")
        if known is not None and known.seeds and not self.seeds:
            warnings.warn(
                f"{setup.env_id} is reset with the seeds of the data ({' '.join(known.seeds)}), so no world is new; "
                "name others with --seeds.",
                RuntimeWarning,
                stacklevel=2,
            )
        return setup

    def chosen_search(self) -> PlannerConfig:
        """The settings of the search; ValueError for an unknown one, and for settings that would do nothing."""
        if self.search not in PLANNERS:
            raise ValueError(f"There is no search {self.search!r}; use one of {', '.join(PLANNERS)}.")
        chosen = {name for name, (settings, _) in PLANNERS.items() if getattr(self, name) != settings()}
        if self.planner is None and (chosen or self.search != "cem"):
            raise ValueError(
                f"Settings of the search {min(chosen, default=self.search)} do nothing without --planner CHECKPOINT, "
                "the world model to search in."
            )
        if self.planner is None and self.critic is not None:
            raise ValueError(
                f"The critic {self.critic} does nothing without --planner CHECKPOINT, the world model to search in."
            )
        if others := chosen - {self.search}:
            raise ValueError(f"Settings of {min(others)} do nothing with --search {self.search}; leave them out.")
        found: PlannerConfig = getattr(self, self.search)
        return found


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
