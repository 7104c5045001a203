"""Who plays in the same worlds: random actions, an oracle, saved policies of several seeds, a planner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gymnasium as gym
from gymnasium.vector import VectorEnv
from minigrid.envs import MemoryEnv

from lssvwm_agents.planning import PlannerConfig, planner_policy
from lssvwm_agents.policies import SavedPolicy, TrainingCost, check_reads, data_steps, load_policy
from lssvwm_envs.explorers.maze_walks import seek
from lssvwm_envs.explorers.mazes import MazeExplorer
from lssvwm_envs.explorers.memory_walker import MemoryOracle
from lssvwm_envs.memory_maze.env import MemoryMazeEnv
from lssvwm_envs.wrappers import VectorMemoryObservation
from lssvwm_rl.model.checkpoints import check_fits, load_world_model, vector_keys_of
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.policy import Policy, RandomPolicy
from lssvwm_rl.spaces import image_shape, is_image, sb3_space, space_to_json

RANDOM, ORACLE, PLANNER, POLICY = "random", "oracle", "planner", "policy"
SCRIPTED = (RANDOM, ORACLE, PLANNER)
"""Names that a policy cannot have."""


@dataclass(frozen=True)
class Contender:
    """A policy, or what makes one for a vector environment, and what is put around the environment for it."""

    policy: Policy | Callable[[VectorEnv], Policy]
    wrap_vector: Callable[[VectorEnv], VectorEnv] | None = None
    source: str | None = None
    """Folder of the policy, or the planner's checkpoint."""
    cost: TrainingCost = TrainingCost()


def contenders(
    env: gym.Env,
    seed: int = 0,
    policies: Sequence[str] = (),
    planner: str | None = None,
    checkpoint: str | None = None,
    search: PlannerConfig | None = None,
    device: str = "cpu",
    critic: str | None = None,
) -> dict[str, tuple[Contender, ...]]:
    """Who plays: "random", "oracle" where there is one, policies by their names, one per seed, and "planner".

    Args:
        env: one of the environments to play.
        seed: of random actions and plans.
        policies: folders of saved policies, or NAME=FOLDER; those of a name are seeds of the same. If one reads the
            memory of a world model, that runs beside the environment.
        planner: the world model that is planned in.
        checkpoint: the world model whose memory policies read, if not the one that each was trained with.
        search: which planner, and how it searches; CEM if None.
        device: of the world models.
        critic: folder of an agent of the planner's world model, whose value function judges what comes after its
            horizon.

    Raises:
        FileNotFoundError: if there is no such policy or checkpoint.
        ValueError: if one of them does not fit the environment, or the policy does not read such a memory, or a name
            is taken.
    """
    found: dict[str, tuple[Contender, ...]] = {RANDOM: (Contender(RandomPolicy(env.action_space, seed)),)}
    if isinstance(env.unwrapped, MemoryMazeEnv):
        found[ORACLE] = (Contender(partial(MazeExplorer, seed=seed, walk=seek)),)
    elif isinstance(env.unwrapped, MemoryEnv):
        found[ORACLE] = (Contender(partial(MemoryOracle, seed=seed)),)
    given = [_named(text) for text in policies]
    folders = [folder.resolve() for _, folder in given]
    if twice := [str(folder) for _, folder in given if folders.count(folder.resolve()) > 1]:
        raise ValueError(f"The policy at {twice[0]} is given {len(twice)} times; every seed has a folder of its own.")
    saved = [(name, folder, load_policy(folder)) for name, folder in given]
    if checkpoint is not None and not any(_reads_memory(each) for _, _, each in saved):
        raise ValueError(
            f"--checkpoint {checkpoint} alone does nothing: it is the model whose memory a policy reads; "
            "give --policy FOLDER of such a one, or --planner CHECKPOINT to plan in it."
        )
    for name, folder, each in saved:
        found[name] = (*found.get(name, ()), _saved(each, folder, checkpoint, env, device))
    if planner is not None:
        judge = None if critic is None else load_policy(critic, device)
        model = _fitting_model(planner, env, device)
        policy = planner_policy(model, search, seed, critic=judge, vector_keys=vector_keys_of(planner, model))
        found[PLANNER] = (Contender(policy, source=planner, cost=TrainingCost(data_steps(planner))),)
    return found


def policy_folder(text: str) -> Path:
    """The folder in FOLDER or NAME=FOLDER.

    Raises:
        ValueError: if the name is none.
    """
    return _named(text)[1]


def _named(text: str) -> tuple[str, Path]:
    """The name and the folder of NAME=FOLDER; a folder alone is called "policy"."""
    name, equals, folder = text.partition("=")
    if not equals or "/" in name or Path(text).exists():
        return POLICY, Path(text)
    if not name or not folder or name in SCRIPTED:
        raise ValueError(
            f"{text!r} does not name a policy; write NAME=FOLDER, with a name other than {', '.join(SCRIPTED)}."
        )
    return name, Path(folder)


def _reads_memory(saved: SavedPolicy) -> bool:
    return saved.checkpoint is not None or len(saved.observation_space.shape or ()) == 1


def _saved(saved: SavedPolicy, folder: Path, checkpoint: str | None, env: gym.Env, device: str) -> Contender:
    if saved.action_space not in (env.action_space, sb3_space(env.action_space)):
        raise ValueError(
            f"The policy at {folder} acts in {saved.action_space}, but {_name(env)} has {env.action_space}; choose the "
            "environment it was trained for."
        )
    if not _reads_memory(saved):
        _check_sees(saved, folder, env)
        return Contender(saved, source=str(folder), cost=saved.cost)
    checkpoint = checkpoint or saved.checkpoint
    if checkpoint is None:
        raise ValueError(
            f"The policy at {folder} reads a memory, but does not say of which world model; give --checkpoint."
        )
    check_reads(saved, _fitting_model(checkpoint, env, device), with_image=True)
    wrap = partial(VectorMemoryObservation, checkpoint=checkpoint, observation=saved.memory_kind, device=device)
    return Contender(saved, wrap, str(folder), saved.cost)


def _check_sees(saved: SavedPolicy, folder: Path, env: gym.Env) -> None:
    """Raise ValueError if a policy of one image takes images of another size."""
    if not is_image(env.observation_space) or isinstance(saved.observation_space, gym.spaces.Dict):
        return
    height, width, channels = image_shape(env.observation_space)
    wanted = (channels * saved.stack, height, width)
    if saved.observation_space.shape != wanted:
        raise ValueError(
            f"The policy at {folder} sees images of shape {saved.observation_space.shape}, those of {_name(env)} are "
            f"{wanted}; choose the environment it was trained for, with the same --env-kwargs."
        )


def _fitting_model(checkpoint: str, env: gym.Env, device: str) -> WorldModel:
    model = load_world_model(checkpoint, device)
    check_fits(model.config, image_shape(env.observation_space), space_to_json(env.action_space), _name(env))
    return model


def _name(env: gym.Env) -> str:
    return str(env) if env.spec is None else env.spec.id
