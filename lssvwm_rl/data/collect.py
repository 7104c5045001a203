"""Collection of episodes from any Gymnasium environment with one image, by any policy with `predict`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import numpy as np
from gymnasium.vector import VectorEnv

from lssvwm_rl.data.play import Start, Step, play
from lssvwm_rl.data.splits import SPLITS, split_seed
from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader, only_appender
from lssvwm_rl.policy import Policy, PolicyFactory
from lssvwm_rl.spaces import (
    action_layout,
    image_key,
    image_of,
    image_shape,
    read_vector,
    read_vectors,
    space_to_json,
    unseen,
)
from lssvwm_rl.stopping import Stopped, noted_signals

LARGEST = float(np.finfo(np.float32).max)


def collect(
    make_envs: Callable[[int], VectorEnv],
    policy_factory: PolicyFactory,
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
    leave_out: Collection[int] = (),
) -> EpisodeStore:
    """Fill the store at `out` up to `episodes` episodes; what is there already is kept and counted.

    Episodes are those of the seeds `seed`, `seed + 1`, ... of the split, but those that the store has and `leave_out`.
    Every started episode is finished, so short ones are not favoured. A killed process loses `store.SHARD_SECONDS`.

    Args:
        make_envs: makes so many environments with autoreset disabled and one image in an observation.
        policy_factory: called with the vector environment and a seed, another one when a collection goes on so that
            nothing is drawn twice, except for policies with `by_world`, which draw by the episode's seed, too.
        out: folder of the store, made if missing.
        episodes: how many it shall hold in the end.
        num_envs: sub-environments stepped together.
        seed: of the first episode, counted inside the split, and the policy's in a new store.
        split: "train", "validation" or "test", see `splits`.
        vector_keys: keys of the Dict observation or of `info` recorded as the episodes' vectors, in this order.
        env_spec: JSON of an EnvSpec, for the header.
        policy_name: likewise.
        on_episode: called after each finished episode.
        shard_episodes: episodes per shard.

    Raises:
        ValueError: for unfit spaces or vectors, another store at `out`, or one to which another process appends.
        stopping.Stopped: if a signal ended it early; what was finished is kept.
    """
    if episodes < 1 or num_envs < 1:
        raise ValueError(f"episodes and num_envs must be at least 1, got {episodes} and {num_envs}.")
    out = Path(out)
    split_seed(split, seed)
    with only_appender(out), noted_signals() as signals:  # from here on no other process plays the same seeds
        stored = stored_episodes(out, split, policy_name)
        used: Sequence[int] = [] if stored is None else stored.seeds.tolist()
        missing = max(0, episodes - len(used))
        num_envs = max(1, min(num_envs, missing))
        seeds = unused_seeds(split, seed, [*used, *leave_out], max(1, missing))
        with closing(make_envs(num_envs)) as envs:
            events = play(envs, _policy(policy_factory, envs, seed, len(used)), [seeds] * num_envs)
            start = next(events)
            header = _header(envs, start, vector_keys, env_spec, policy_name, split_seed(split, seed))
            with EpisodeWriter(out, header, shard_episodes) as writer:
                steps = _between(events, writer, signals)
                for episode in islice(recorded(envs, chain([start], steps), vector_keys, len(used)), missing):
                    writer.add(episode)
                    if on_episode is not None:
                        on_episode(episode)
    return EpisodeStore(out)


def _between(events: Iterable[Start | Step], writer: EpisodeWriter, signals: Sequence[int]) -> Iterator[Start | Step]:
    """Events, until a signal has been noted. Between two, what was finished gets on the disk when it is time."""
    for event in events:
        yield event
        writer.flush_if_due()
        if signals:
            raise Stopped(signals[0])


def _policy(make: PolicyFactory, envs: VectorEnv, seed: int, stored: int) -> Policy:
    """What plays, with draws that the `stored` episodes were not played by."""
    policy = make(envs, seed)
    if not stored or getattr(policy, "by_world", False):
        return policy
    return make(envs, int(np.random.SeedSequence([seed, stored]).generate_state(1)[0]))


def stored_episodes(out: Path, split: str, policy_name: str) -> EpisodeStore | None:
    """What is at `out` already, to which a collection can add; None if nothing is.

    Raises:
        ValueError: if other episodes are.
    """
    if not (out / "header.json").exists():
        return None
    stored = EpisodeStore(out)
    if stored.header.policy != policy_name:
        raise ValueError(
            f"{out} was collected with policy {stored.header.policy!r}, not {policy_name!r}; use another folder."
        )
    strangers = [s for s in stored.seeds.tolist() if s >= 0 and s not in SPLITS[split]]
    if strangers:
        raise ValueError(
            f"{out} holds world {strangers[0]:,}, which is not of the split {split!r}; use another folder or split."
        )
    return stored


def unused_seeds(split: str, k: int, used: Iterable[int], count: int) -> Iterator[int]:
    """The first `count` seeds of a split, from its world k on, that are not among `used`.

    Raises:
        ValueError: if the split has no more.
    """
    taken = set(used)
    while count > 0:
        seed = split_seed(split, k)
        if seed not in taken:
            count -= 1
            yield seed
        k += 1


def _header(
    envs: VectorEnv, start: Start | Step, vector_keys: Sequence[str], env_spec: str | None, policy_name: str, seed: int
) -> StoreHeader:
    height, width, channels = image_shape(envs.single_observation_space)
    sizes = {key: read_vector(key, start.observation, start.info, envs.num_envs).shape[1] for key in vector_keys}
    return StoreHeader(
        frame_shape=(height, width, channels),
        action_space=space_to_json(envs.single_action_space),
        vector_keys=sizes,
        env_spec=env_spec,
        policy=policy_name,
        seeds=(seed,),
        from_info=unseen(vector_keys, start.observation),
    )


@dataclass(frozen=True)
class _Track:
    """One episode while it is being played."""

    number: int
    seed: int
    frames: list[np.ndarray] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)

    @property
    def where(self) -> str:
        """Of the frame that comes next."""
        return f"step {len(self.frames)} of episode {self.number} (seed {self.seed})"

    def add(self, frame: np.ndarray, vector: np.ndarray) -> None:
        if not np.isfinite(vector).all():
            raise ValueError(
                f"The vector at {self.where} is {vector.tolist()}; let the environment give finite numbers, or leave "
                "the key out."
            )
        self.frames.append(frame)
        self.vectors.append(vector)

    def act(self, action: np.ndarray, reward: float) -> None:
        if not abs(reward) <= LARGEST:
            raise ValueError(f"The reward at {self.where} is {reward}; let the environment give finite float32 ones.")
        self.actions.append(action)
        self.rewards.append(reward)

    def episode(self, terminated: bool, truncated: bool) -> Episode:
        return Episode(
            frames=np.stack(self.frames),
            actions=np.stack(self.actions),
            rewards=np.asarray(self.rewards, np.float32),
            terminated=terminated,
            truncated=truncated,
            vectors=np.stack(self.vectors) if self.vectors[0].size else None,
            seed=self.seed,
        )


def recorded(
    envs: VectorEnv, events: Iterable[Start | Step], vector_keys: Sequence[str], stored: int = 0
) -> Iterator[Episode]:
    """Episodes in the order in which they end.

    Args:
        events: what `play` yields of these environments.
        vector_keys: as in `collect`.
        stored: episodes that there are already; the number of the first one begun here.

    Raises:
        ValueError: for unfit spaces or unknown vector keys, and, with the episode, its seed and the step, for a vector
            that is not there, or a reward or vector that is not finite.
    """
    image, (_, action_dtype) = image_key(envs.single_observation_space), action_layout(envs.single_action_space)
    tracks: dict[int, _Track] = {}
    begun = stored
    for event in events:
        rows = np.flatnonzero(event.rows).tolist()
        if isinstance(event, Start):
            tracks |= {i: _Track(begun + k, int(event.seeds[i])) for k, i in enumerate(rows)}
            begun += len(rows)
        frames = image_of(event.observation, image).copy()
        vectors = _vectors(vector_keys, event, tracks, envs.num_envs)
        for i in rows:
            if isinstance(event, Step):
                tracks[i].act(np.asarray(event.actions[i], dtype=action_dtype), float(event.rewards[i]))
            tracks[i].add(frames[i], vectors[i])
            if isinstance(event, Step) and event.ended[i]:
                yield tracks[i].episode(bool(event.terminated[i]), bool(event.truncated[i]))


def _vectors(keys: Sequence[str], event: Start | Step, tracks: Mapping[int, _Track], n: int) -> np.ndarray:
    """(n, V) float32, of the rows that are in an episode."""
    if not event.rows.any():
        return np.zeros((n, 0), np.float32)
    try:
        return read_vectors(keys, event.observation, event.info, n, event.rows)
    except ValueError:
        for i in np.flatnonzero(event.rows).tolist():
            try:
                read_vectors(keys, event.observation, event.info, n, np.arange(n) == i)
            except ValueError as error:
                raise ValueError(f"At {tracks[i].where}: {error}") from None
        raise
