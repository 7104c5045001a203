"""Who plays in the same worlds: random actions, the oracle of native mazes, a saved policy, the planner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gymnasium as gym
from gymnasium.vector import VectorEnv

from lssvwm_agents.planning import PlannerConfig, planner_policy
from lssvwm_agents.policies import check_reads, load_policy
from lssvwm_envs.explorers.maze_walks import seek
from lssvwm_envs.explorers.mazes import MazeExplorer
from lssvwm_envs.memory_maze.env import MemoryMazeEnv
from lssvwm_envs.wrappers import VectorMemoryObservation
from lssvwm_rl.model.checkpoints import check_fits, load_world_model
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.policy import Policy, RandomPolicy
from lssvwm_rl.spaces import image_shape, space_to_json


@dataclass(frozen=True)
class Contender:
    """A policy, or what makes one for a vector environment, and what is put around the environment for it."""

    policy: Policy | Callable[[VectorEnv], Policy]
    wrap_vector: Callable[[VectorEnv], VectorEnv] | None = None


def contenders(
    env: gym.Env,
    seed: int = 0,
    policy: Path | None = None,
    planner: str | None = None,
    checkpoint: str | None = None,
    search: PlannerConfig | None = None,
    device: str = "cpu",
) -> dict[str, Contender]:
    """Who plays: "random", in native mazes "oracle", and what is given of "policy" and "planner".

    Args:
        env: one of the environments to play.
        seed: of random actions and plans.
        policy: folder of a saved policy; if it reads the memory of a world model, that runs beside the environment.
        planner: the world model that is planned in.
        checkpoint: the world model whose memory the policy reads, if not the one that it was trained with.
        search: which planner, and how it searches; CEM if None.
        device: of the world models.

    Raises:
        FileNotFoundError: if there is no such policy or checkpoint.
        ValueError: if one of them does not fit the environment, or the policy does not read such a memory.
    """
    found = {"random": Contender(RandomPolicy(env.action_space, seed))}
    if isinstance(env.unwrapped, MemoryMazeEnv):
        found["oracle"] = Contender(partial(MazeExplorer, seed=seed, walk=seek))
    if policy is not None:
        found["policy"] = _saved(policy, checkpoint, env, device)
    if planner is not None:
        found["planner"] = Contender(planner_policy(_fitting_model(planner, env, device), search, seed))
    return found


def _saved(folder: Path, checkpoint: str | None, env: gym.Env, device: str) -> Contender:
    saved = load_policy(folder)
    if saved.action_space != env.action_space:
        raise ValueError(
            f"The policy at {folder} acts in {saved.action_space}, but {_name(env)} has {env.action_space}; choose the "
            "environment it was trained for."
        )
    checkpoint = checkpoint or saved.checkpoint
    if checkpoint is None:
        return Contender(saved)
    check_reads(saved, _fitting_model(checkpoint, env, device))
    wrap = partial(VectorMemoryObservation, checkpoint=checkpoint, observation="memory", device=device)
    return Contender(saved, wrap)


def _fitting_model(checkpoint: str, env: gym.Env, device: str) -> WorldModel:
    model = load_world_model(checkpoint, device)
    check_fits(model.config, image_shape(env.observation_space), space_to_json(env.action_space), _name(env))
    return model


def _name(env: gym.Env) -> str:
    return str(env) if env.spec is None else env.spec.id
