"""Collection of episodes from any Gymnasium environment with one image, by any policy with `predict`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.spaces import action_layout, image_key, space_to_json, vector_size


class Policy(Protocol):
    """Stable-Baselines3's `predict`, batched over sub-environments."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]: ...


class RandomPolicy:
    """Uniform samples of the action space."""

    def __init__(self, envs: VectorEnv, seed: int):
        self._space = envs.action_space
        self._space.seed(seed)

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Actions for every sub-environment; the state passes through."""
        return self._space.sample(), state


def collect(
    make_env: Callable[[], gym.Env],
    policy_factory: Callable[[VectorEnv, int], Policy],
    out: str | Path,
    episodes: int,
    num_envs: int = 16,
    seed: int = 0,
    vector_keys: Sequence[str] = (),
    env_spec: str | None = None,
    policy_name: str = "unknown",
    on_episode: Callable[[Episode], None] | None = None,
    shard_episodes: int = 256,
) -> EpisodeStore:
    """Fill the store at `out` up to `episodes` episodes; what is there already is kept and counted.

    Episodes are the ones of the environment seeds `seed`, `seed + 1`, ..., leaving out seeds the store already has.
    Every started episode is finished, so short episodes are not favoured.

    Args:
        make_env: makes one environment; its observation is a uint8 image or a Dict with one.
        policy_factory: called with the vector environment and a seed.
        out: folder of the store, made if missing.
        episodes: how many the store shall hold in the end.
        num_envs: sub-environments stepped together.
        seed: first environment seed, and the policy's.
        vector_keys: keys of the Dict observation or of `info` recorded as the episodes' vectors, in this order.
        env_spec: JSON of the EnvSpec, for the header.
        policy_name: for the header.
        on_episode: called after each finished episode.
        shard_episodes: episodes per shard.

    Returns:
        The store.

    Raises:
        ValueError: for unfit spaces, unknown vector keys, or a store of another kind at `out`.
    """
    if episodes < 1 or num_envs < 1:
        raise ValueError(f"episodes and num_envs must be at least 1, got {episodes} and {num_envs}.")
    out = Path(out)
    stored = EpisodeStore(out) if (out / "header.json").exists() else None
    have = 0 if stored is None else len(stored)
    if stored is not None and stored.header.policy != policy_name:
        raise ValueError(
            f"{out} was collected with policy {stored.header.policy!r}, not {policy_name!r}; use that or another folder."
        )
    seeds = _unused_seeds(seed, () if stored is None else stored.seeds, max(0, episodes - have))
    num_envs = min(num_envs, max(1, episodes - have))
    envs = SyncVectorEnv([make_env] * num_envs, autoreset_mode=AutoresetMode.DISABLED)
    try:
        image = image_key(envs.single_observation_space)
        image_space = envs.single_observation_space if image is None else envs.single_observation_space[image]  # type: ignore[index]
        _, action_dtype = action_layout(envs.single_action_space)
        first_seed = next(seeds, None)
        # Resetting tells the sizes of the vectors that come from info.
        started = [first_seed] + [next(seeds, None) for _ in range(num_envs - 1)]
        observation, info = envs.reset(seed=started)
        sizes = {key: _read_vector(key, observation, info, envs).shape[1] for key in vector_keys}
        header = StoreHeader(
            frame_shape=image_space.shape,  # type: ignore[arg-type]
            action_space=space_to_json(envs.single_action_space),
            vector_keys=sizes,
            env_spec=env_spec,
            policy=policy_name,
            seeds=(seed,),
        )
        if stored is not None:
            stored.header.check_same_kind(header, out)
        if first_seed is None:
            assert stored is not None
            return stored
        # A continued collection must not replay the policy's random numbers.
        policy = policy_factory(envs, first_seed)
        with EpisodeWriter(out, header, shard_episodes) as writer:
            for episode in _episodes(envs, policy, observation, info, image, vector_keys, action_dtype, started, seeds):
                writer.add(episode)
                if on_episode is not None:
                    on_episode(episode)
    finally:
        envs.close()
    return EpisodeStore(out)


def _unused_seeds(seed: int, used: Sequence[int] | np.ndarray, count: int) -> Iterator[int]:
    taken = {int(s) for s in used}
    while count > 0:
        if seed not in taken:
            count -= 1
            yield seed
        seed += 1


def _episodes(
    envs: SyncVectorEnv,
    policy: Policy,
    observation: Any,
    info: dict[str, Any],
    image: str | None,
    vector_keys: Sequence[str],
    action_dtype: np.dtype,
    started: list[int | None],
    seeds: Iterator[int],
) -> Iterator[Episode]:
    """Step all sub-environments until every seed's episode is finished.

    The collector resets finished sub-environments itself (no autoreset), so that each episode gets its own seed, every
    reset frame is an episode's first frame and no reset looks like a transition. `started[i]` is the seed running in
    sub-environment i; None marks one that has no episode left and whose steps are dropped.
    """
    n = envs.num_envs

    def observed() -> list[tuple[np.ndarray, np.ndarray | None]]:
        frames = observation if image is None else observation[image]
        if not vector_keys:
            return [(frames[i], None) for i in range(n)]
        vectors = np.concatenate([_read_vector(k, observation, info, envs) for k in vector_keys], axis=1)
        return [(frames[i], vectors[i]) for i in range(n)]

    tracks: list[list[Any]] = [[seen] for seen in observed()]  # observation, (action, reward), observation, ...
    state: Any = None
    episode_start = np.ones(n, bool)
    while any(s is not None for s in started):
        actions, state = policy.predict(observation, state=state, episode_start=episode_start)
        _check_actions(actions, envs)
        observation, rewards, terminated, truncated, info = envs.step(actions)
        seen = observed()
        stored_actions = np.asarray(actions, dtype=action_dtype)
        done = terminated | truncated
        for i in range(n):
            if started[i] is None:
                continue
            tracks[i] += [(stored_actions[i], rewards[i]), seen[i]]
            if done[i]:
                yield _episode(tracks[i], bool(terminated[i]), bool(truncated[i]), started[i])
                started[i] = next(seeds, None)
        episode_start = done
        if done.any():
            reset_seeds = [started[i] if done[i] else None for i in range(n)]
            observation, info = envs.reset(seed=reset_seeds, options={"reset_mask": done})
            for i, seen_i in enumerate(_observed_where(done, observation, info, image, vector_keys, envs)):
                if done[i]:
                    tracks[i] = [seen_i]
