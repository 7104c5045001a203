"""Trials for measurements: episodes played in worlds of one split, with what is hidden recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorEnv

from lssvwm_rl.data.splits import split_seed
from lssvwm_rl.data.store import Episode
from lssvwm_rl.measures.trial import Trial
from lssvwm_rl.policy import Policy
from lssvwm_rl.spaces import action_layout, image_key


@runtime_checkable
class ShowsSurfaces(Protocol):
    """An environment, single or vector, that tells what its pixels show."""

    def surfaces(self) -> np.ndarray:
        """([N, ]H, W) int32, see `lssvwm_rl.measures.revisit.sight_ages`."""
        ...


def record_trials(
    make_envs: Callable[[int], VectorEnv],
    policy_factory: Callable[[VectorEnv, int], Policy],
    count: int,
    steps: int,
    seed: int = 0,
    split: str = "test",
    vector_keys: Sequence[str] = (),
) -> list[Trial]:
    """Play `count` worlds of a split, side by side, for exactly `steps` steps.

    Args:
        make_envs: as `lssvwm_envs.make.image_envs` gives it; trials have surfaces if the environments are
            `ShowsSurfaces`.
        policy_factory: called with the environments and the seed.
        seed: of the first world, counted inside the split.
        vector_keys: keys of the observation or of `info` that make the episodes' vectors.

    Raises:
        ValueError: if an episode ends before, or a vector key is unknown.
    """
    envs = make_envs(count)
    try:
        seeds: Any = [split_seed(split, seed + i) for i in range(count)]
        image = image_key(envs.single_observation_space)
        _, dtype = action_layout(envs.single_action_space)
        policy = policy_factory(envs, seed)
        observation, info = envs.reset(seed=seeds)
        frames, surfaces, hidden = [_image(observation, image)], [_surfaces(envs)], [_hidden(observation, info, image)]
        actions, rewards, ends = [], [], []
        state: Any = None
        start = np.ones(count, bool)
        for t in range(steps):
            action, state = policy.predict(observation, state=state, episode_start=start)
            start = np.zeros(count, bool)
            observation, reward, terminated, truncated, info = envs.step(action)
            if t < steps - 1 and (terminated | truncated).any():
                raise ValueError(
                    f"An episode ended after {t + 1} steps, {steps} are needed; ask for fewer or make the environment "
                    "with more steps."
                )
            frames.append(_image(observation, image))
            surfaces.append(_surfaces(envs))
            hidden.append(_hidden(observation, info, image))
            actions.append(np.asarray(action, dtype))
            rewards.append(np.asarray(reward, np.float32))
            ends.append((terminated, truncated))
    finally:
        envs.close()
    unknown = set(vector_keys) - set(hidden[0])
    if unknown:
        raise ValueError(f"There is no vector {unknown.pop()!r}; there are {', '.join(sorted(hidden[0])) or 'none'}.")
    return [
        Trial(
            episode=Episode(
                frames=np.stack([f[i] for f in frames]),
                actions=np.stack([a[i] for a in actions]),
                rewards=np.array([r[i] for r in rewards], np.float32),
                terminated=bool(ends[-1][0][i]),
                truncated=bool(ends[-1][1][i]),
                vectors=_vectors([{k: h[k][i] for k in vector_keys} for h in hidden]) if vector_keys else None,
                seed=seeds[i],
            ),
            surfaces=None if surfaces[0] is None else np.stack([s[i] for s in surfaces]),
            hidden={k: np.stack([h[k][i] for h in hidden]) for k in hidden[0]},
        )
        for i in range(count)
    ]


def _image(observation: Any, key: str | None) -> np.ndarray:
    return (observation if key is None else observation[key]).copy()


def _hidden(observation: Any, info: dict[str, Any], image: str | None) -> dict[str, np.ndarray]:
    """Numeric parts of the observation beside the image, and of info."""
    parts = {**info, **(observation if isinstance(observation, dict) else {})}
    arrays = {k: np.asarray(v) for k, v in parts.items() if k != image and not k.startswith("_")}
    return {k: v.copy() for k, v in arrays.items() if v.dtype.kind in "biuf"}


def _vectors(rows: list[dict[str, np.ndarray]]) -> np.ndarray:
    return np.stack([np.concatenate([np.ravel(v) for v in row.values()]) for row in rows]).astype(np.float32)


def _surfaces(envs: VectorEnv) -> Any:
    """(N, H, W) int32 or None."""
    inner: Any = envs.unwrapped
    if isinstance(inner, SyncVectorEnv):
        singles = [env.unwrapped for env in inner.envs]
        shown = [env.surfaces() for env in singles if isinstance(env, ShowsSurfaces)]
        return np.stack(shown) if len(shown) == len(singles) else None
    return inner.surfaces() if isinstance(inner, ShowsSurfaces) else None
