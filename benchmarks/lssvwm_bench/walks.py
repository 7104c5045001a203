"""What the long-memory protocols play: the environment of the checkpoints, by walks that suit it."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from lssvwm_bench.lineup import LENGTHS, Lineup
from lssvwm_envs.explorers import make_explorer
from lssvwm_envs.explorers.lasting import LastingActions
from lssvwm_envs.explorers.maze_view import are_mazes
from lssvwm_envs.explorers.maze_walks import patrol, restless
from lssvwm_envs.explorers.mazes import MazeExplorer
from lssvwm_envs.explorers.out_and_back import OutAndBack, are_recall_rooms
from lssvwm_envs.make import EnvSetup
from lssvwm_envs.options import EnvOptions, known_setup
from lssvwm_rl.model.checkpoints import check_fits
from lssvwm_rl.policy import Policy, PolicyFactory
from lssvwm_rl.spaces import image_shape, space_to_json

CELL_STEPS = 16  # steps per cell of a way there and back, with its turns, at most


def trial_environment(lineup: Lineup, env_id: str | None, options: EnvOptions, steps: int) -> EnvSetup:
    """`fitting_environment`, made to be played for `steps` steps."""
    setup = fitting_environment(lineup, env_id, options)
    with setup.make() as env:
        # Episodes that nothing but a number of steps ends last for the whole trial.
        if "max_steps" in inspect.signature(type(env.unwrapped)).parameters:
            kwargs = {**setup.kwargs, "max_steps": max(steps, setup.kwargs.get("max_steps") or 0)}
            return replace(setup, kwargs=kwargs)
    return setup


def fitting_environment(lineup: Lineup, env_id: str | None, options: EnvOptions) -> EnvSetup:
    """The environment to play.

    Args:
        env_id: what the models were trained in if None.
        options: what else is given of it; the rest is as it was when the models were trained, if they were in it.

    Raises:
        ValueError: if the environment is unknown to the checkpoints or does not fit them.
        gymnasium.error.Error: if there is no such environment.
    """
    known = known_setup(env_id, lineup.environment)
    setup = options.setup(env_id, known, "the checkpoints' data", free=LENGTHS)
    with setup.make() as env:
        for model in lineup.models.values():
            check_fits(model.config, image_shape(env.observation_space), space_to_json(env.action_space), setup.env_id)
    return setup


def there_and_back(context: int) -> PolicyFactory:
    """Walks along a way and back for a context of so many frames, then once more the same way, with what was seen
    coming into view exactly as before; in MiniGridRecall once there, then back; elsewhere, where nothing leads back,
    whatever explores."""
    steps = max(1, context - 1)

    def make(envs: VectorEnv, seed: int) -> Policy:
        if are_mazes(envs):
            return MazeExplorer(envs, seed, partial(patrol, cells=(2, max(2, context // CELL_STEPS)), wait=steps))
        if are_recall_rooms(envs):
            return OutAndBack(envs, seed, (steps, steps))
        return make_explorer(envs, seed)

    return make


def then_restless(explorer: PolicyFactory, context: int) -> PolicyFactory:
    """Another policy for a context of so many frames, then random actions, each held for some steps."""

    def make(envs: VectorEnv, seed: int) -> Policy:
        after = MazeExplorer(envs, seed, restless) if are_mazes(envs) else LastingActions(envs, seed)
        return _Then(explorer(envs, seed), after, context - 1)

    return make


class _Then:
    """One policy for some steps, then another."""

    def __init__(self, first: Policy, second: Policy, steps: int) -> None:
        self.first, self.second, self.steps = first, second, steps

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Actions of either; the state is the steps taken and the acting policy's. All episodes begin together."""
        taken, inner = (0, None) if state is None else state
        policy = self.first if taken < self.steps else self.second
        if taken == self.steps:
            inner = None
        actions, inner = policy.predict(observation, inner, episode_start, deterministic)
        return actions, (taken + 1, inner)
