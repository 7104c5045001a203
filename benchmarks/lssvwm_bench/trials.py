"""Trials for measurements: episodes played in worlds of one split, with what is hidden recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium.vector import VectorEnv

from lssvwm_envs.make import single_envs
from lssvwm_rl.data.play import Start, Step, play
from lssvwm_rl.data.splits import split_seed
from lssvwm_rl.data.store import Episode
from lssvwm_rl.measures.trial import Trial
from lssvwm_rl.policy import PolicyFactory
from lssvwm_rl.progress import Update
from lssvwm_rl.spaces import action_layout, image_key, image_of, read_vectors


@runtime_checkable
class ShowsSurfaces(Protocol):
    """An environment, single or vector, that tells what its pixels show."""

    def surfaces(self) -> np.ndarray:
        """([N, ]H, W) int32, see `lssvwm_rl.measures.revisit.sight_ages`."""
        ...


@dataclass(frozen=True)
class _View:
    """What N worlds show at one time."""

    frames: np.ndarray
    surfaces: np.ndarray | None
    hidden: dict[str, np.ndarray]
    vectors: np.ndarray


@dataclass(frozen=True)
class _Move:
    """What N policies did at one time, and what came of it."""

    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


def record_trials(
    make_envs: Callable[[int], VectorEnv],
    policy_factory: PolicyFactory,
    count: int,
    steps: int,
    seed: int = 0,
    split: str = "test",
    vector_keys: Sequence[str] = (),
    progress: Update | None = None,
) -> list[Trial]:
    """Play `count` worlds of a split, side by side, for exactly `steps` steps.

    Args:
        make_envs: as `lssvwm_envs.make.image_envs` gives it; trials have surfaces if the environments are
            `ShowsSurfaces`.
        policy_factory: called with the environments and the seed.
        seed: of the first world, counted inside the split.
        vector_keys: keys of the observation or of `info` that make the episodes' vectors.
        progress: called with (steps, all of them), of all worlds together.

    Raises:
        ValueError: if an episode ends before, or a vector key is unknown.
    """
    seeds = [split_seed(split, seed + i) for i in range(count)]
    envs = make_envs(count)
    try:
        _, dtype = action_layout(envs.single_action_space)
        events = play(envs, policy_factory(envs, seed), [iter([world]) for world in seeds])
        views, moves = [], []
        for event in islice(events, steps + 1):
            views.append(_view(envs, event, vector_keys))
            if isinstance(event, Step):
                moves.append(_Move(np.array(event.actions, dtype), np.array(event.rewards, np.float32),
                                   event.terminated, event.truncated))  # fmt: skip
                if progress is not None:
                    progress(count * len(moves), count * steps)
                if len(moves) < steps and event.ended.any():
                    raise ValueError(
                        f"An episode ended after {len(moves)} steps, {steps} are needed; ask for fewer or make the "
                        "environment with more steps."
                    )
    finally:
        envs.close()
    return [_trial(i, world, views, moves) for i, world in enumerate(seeds)]


def _view(envs: VectorEnv, event: Start | Step, vector_keys: Sequence[str]) -> _View:
    image = image_key(envs.single_observation_space)
    frames = image_of(event.observation, image).copy()
    return _View(
        frames=frames,
        surfaces=_surfaces(envs, frames.shape[1:3]),
        hidden=_hidden(event.observation, event.info, image),
        vectors=read_vectors(vector_keys, event.observation, event.info, envs.num_envs),
    )


def _trial(i: int, world: int, views: Sequence[_View], moves: Sequence[_Move]) -> Trial:
    """What happened in row i."""
    surfaces = [view.surfaces[i] for view in views if view.surfaces is not None]
    return Trial(
        episode=Episode(
            frames=np.stack([view.frames[i] for view in views]),
            actions=np.stack([move.actions[i] for move in moves]),
            rewards=np.stack([move.rewards[i] for move in moves]),
            terminated=bool(moves[-1].terminated[i]),
            truncated=bool(moves[-1].truncated[i]),
            vectors=np.stack([view.vectors[i] for view in views]) if views[0].vectors.size else None,
            seed=world,
        ),
        surfaces=np.stack(surfaces) if surfaces else None,
        hidden={key: np.stack([view.hidden[key][i] for view in views]) for key in views[0].hidden},
    )


def _hidden(observation: Any, info: dict[str, Any], image: str | None) -> dict[str, np.ndarray]:
    """Numeric parts of the observation beside the image, and of info."""
    parts = {**info, **(observation if isinstance(observation, dict) else {})}
    arrays = {k: np.asarray(v) for k, v in parts.items() if k != image and not k.startswith("_")}
    return {k: v.copy() for k, v in arrays.items() if v.dtype.kind in "biuf"}


def _surfaces(envs: VectorEnv, size: tuple[int, ...]) -> np.ndarray | None:
    """(N, H, W) int32 of frames of that size, or None where the environments do not tell, or show another size."""
    if isinstance(envs.unwrapped, ShowsSurfaces):
        return envs.unwrapped.surfaces()
    shown = [env.surfaces() for env in single_envs(envs) if isinstance(env, ShowsSurfaces)]
    return np.stack(shown) if len(shown) == envs.num_envs and shown[0].shape == size else None
