"""Collection of episodes from any Gymnasium environment with one image, by any policy with `predict`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from lssvwm_rl.data.splits import SPLITS, split_seed
from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.policy import Policy
from lssvwm_rl.spaces import action_layout, image_key, space_to_json


def collect(
    make_envs: Callable[[int], VectorEnv],
    policy_factory: Callable[[VectorEnv, int], Policy],
    out: str | Path,
    episodes: int,
    num_envs: int = 16,
    seed: int = 0,
    split: str = "train",
    vector_keys: Sequence[str] = (),
    env_spec: str | None = None,
    policy_name: str = "unknown",
    on_episode: Callable[[Episode], None] | None = None,
    shard_episodes: int = 256,
) -> EpisodeStore:
    """Fill the store at `out` up to `episodes` episodes; what is there already is kept and counted.

    Episodes are those of the seeds `seed`, `seed + 1`, ... of the split, leaving out seeds the store already has.
    Every started episode is finished, so short episodes are not favoured.

    Args:
        make_envs: makes so many environments with autoreset disabled; an observation is a uint8 image or a Dict with
            one.
        policy_factory: called with the vector environment and a seed.
        out: folder of the store, made if missing.
        episodes: how many the store shall hold in the end.
        num_envs: sub-environments stepped together.
        seed: of the first episode, counted inside the split, and the policy's.
        split: "train", "validation" or "test", see `splits`.
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
            f"{out} was collected with policy {stored.header.policy!r}, not {policy_name!r}; use another folder."
        )
    split_seed(split, seed)  # says what is wrong with either before anything is made
    strangers = [] if stored is None else [s for s in stored.seeds.tolist() if s >= 0 and s not in SPLITS[split]]
    if strangers:
        raise ValueError(
            f"{out} holds world {strangers[0]:,}, which is not of the split {split!r}; use another folder or split."
        )
    missing = max(0, episodes - have)
    num_envs = max(1, min(num_envs, missing))
    seeds = _unused_seeds(split, seed, () if stored is None else stored.seeds, missing)
    # Sub-environments are reset here and not by autoreset, so that every episode has its own seed and no reset looks
    # like a transition.
    envs = make_envs(num_envs)
    try:
        image = image_key(envs.single_observation_space)
        _, action_dtype = action_layout(envs.single_action_space)
        running = [next(seeds, None) for _ in range(num_envs)]
        observation: Any
        seeds_now: Any = running  # VectorEnv takes a list as well as a number, its annotation does not say so
        observation, info = envs.reset(seed=seeds_now)
        header = StoreHeader(
            frame_shape=_frames(observation, image).shape[1:],
            action_space=space_to_json(envs.single_action_space),
            vector_keys={key: read_vector(key, observation, info, num_envs).shape[1] for key in vector_keys},
            env_spec=env_spec,
            policy=policy_name,
            seeds=(split_seed(split, seed),),
        )
        if stored is not None:
            stored.header.check_same_kind(header, out)
        policy = policy_factory(envs, seed)
        with EpisodeWriter(out, header, shard_episodes) as writer:
            for episode in _episodes(envs, policy, observation, info, image, vector_keys, action_dtype, running, seeds):
                writer.add(episode)
                if on_episode is not None:
                    on_episode(episode)
    finally:
        envs.close()
    return EpisodeStore(out)


def _unused_seeds(split: str, k: int, used: Sequence[int] | np.ndarray, count: int) -> Iterator[int]:
    taken = {int(s) for s in used}
    while count > 0:
        seed = split_seed(split, k)
        if seed not in taken:
            count -= 1
            yield seed
        k += 1


class _Track:
    """One episode while it is being played."""

    def __init__(self, frame: np.ndarray, vector: np.ndarray):
        self.frames, self.vectors = [frame], [vector]
        self.actions: list[np.ndarray] = []
        self.rewards: list[float] = []

    def episode(self, terminated: bool, truncated: bool, seed: int) -> Episode:
        return Episode(
            frames=np.stack(self.frames),
            actions=np.stack(self.actions),
            rewards=np.asarray(self.rewards, np.float32),
            terminated=terminated,
            truncated=truncated,
            vectors=np.stack(self.vectors) if self.vectors[0].size else None,
            seed=seed,
        )


def _episodes(
    envs: VectorEnv,
    policy: Policy,
    observation: Any,
    info: dict[str, Any],
    image: str | None,
    vector_keys: Sequence[str],
    action_dtype: np.dtype,
    running: list[int | None],
    seeds: Iterator[int],
) -> Iterator[Episode]:
    """Step until every seed's episode is finished; `running[i]` is sub-environment i's seed, None if it has no more."""
    n = envs.num_envs

    def seen() -> tuple[np.ndarray, np.ndarray]:
        vectors = [read_vector(key, observation, info, n) for key in vector_keys]
        return _frames(observation, image).copy(), np.concatenate([np.zeros((n, 0), np.float32), *vectors], axis=1)

    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    tracks = [_Track(frame, vector) for frame, vector in zip(*seen(), strict=True)]
    state: Any = None
    episode_start = np.ones(n, bool)
    while any(s is not None for s in running):
        actions, state = policy.predict(observation, state=state, episode_start=episode_start)
        _check_actions(actions, envs)
        observation, rewards, terminated, truncated, info = envs.step(actions)
        frames, vectors = seen()
        done = terminated | truncated
        for i, track in enumerate(tracks):
            track.frames.append(frames[i])
            track.vectors.append(vectors[i])
            track.actions.append(np.asarray(actions[i], dtype=action_dtype))
            track.rewards.append(float(rewards[i]))
            current = running[i]
            if done[i] and current is not None:
                yield track.episode(bool(terminated[i]), bool(truncated[i]), current)
                running[i] = next(seeds, None)
        episode_start = done
        if done.any():
            reset_seeds: Any = [running[i] if done[i] else None for i in range(n)]
            observation, info = envs.reset(seed=reset_seeds, options={"reset_mask": done})
            frames, vectors = seen()
            for i in np.flatnonzero(done).tolist():
                tracks[i] = _Track(frames[i], vectors[i])


def _frames(observation: Any, image: str | None) -> np.ndarray:
    return observation if image is None else observation[image]


def read_vector(key: str, observation: Any, info: dict[str, Any], n: int) -> np.ndarray:
    """(n, size) float32 of a key of the observation or of `info`; after a partial reset only its rows mean anything.

    Raises:
        ValueError: if neither has the key, or what it holds is not numeric.
    """
    value = observation.get(key) if isinstance(observation, dict) else None
    value = info.get(key) if value is None else value
    if value is None:
        names = sorted({*(observation if isinstance(observation, dict) else ()), *(k for k in info if k[0] != "_")})
        raise ValueError(f"There is no vector {key!r}; observation and info have {', '.join(names) or 'no keys'}.")
    try:
        return np.asarray(value, np.float32).reshape(n, -1)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The vector {key!r} is not numeric ({error}); name another key.") from error


def _check_actions(actions: np.ndarray, envs: VectorEnv) -> None:
    if len(actions) != envs.num_envs or not all(envs.single_action_space.contains(a) for a in np.asarray(actions)):
        raise ValueError(f"The policy gave actions {actions}, which are not in {envs.single_action_space}.")
