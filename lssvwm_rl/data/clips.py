"""Clips: batches of contiguous pieces of episodes, with actions aligned to frames and padding masked."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lssvwm_rl.data.store import Episode, EpisodeStore

BUCKETS = 8
CACHE_BYTES = 4 * 1024**3  # stores with fewer bytes of frames are decoded into RAM once


class Before(NamedTuple):
    """What happened before clips, (B, T', ...): in front of it padding, and behind it the clips."""

    frames: Tensor
    """(B, T', H, W, C) uint8."""
    actions: Tensor
    """(B, T'[, A]), the action that led into the frame; 0 at the first."""
    mask: Tensor
    """(B, T') bool, real frames."""
    vectors: Tensor | None
    """(B, T', V) float32."""

    def to(self, device: torch.device | str) -> Before:
        """On another device."""
        vectors = None if self.vectors is None else self.vectors.to(device)
        return Before(self.frames.to(device), self.actions.to(device), self.mask.to(device), vectors)


@dataclass(frozen=True)
class Batch:
    """B clips of T frames. What led to a frame stands at the frame's own index; this is the one place of that shift.

    Attributes:
        frames: (B, T, H, W, C) uint8.
        actions: (B, T) int64 or (B, T, A), the action that led into the frame; 0 at a clip's first frame.
        first: (B, T) bool, the first frame of an episode.
        rewards: (B, T) float32, received on arriving at the frame; 0 at a clip's first frame.
        terminated: (B, T) bool, the episode terminated with this frame.
        mask: (B, T) bool, real frames; padding is behind them.
        vectors: (B, T, V) float32 or None.
        before: what came before the clips in their episodes, None if nothing did or is known.
    """

    frames: Tensor
    actions: Tensor
    first: Tensor
    rewards: Tensor
    terminated: Tensor
    mask: Tensor
    vectors: Tensor | None = None
    before: Before | None = None

    def to(self, device: torch.device | str) -> Batch:
        """On another device."""
        vectors = None if self.vectors is None else self.vectors.to(device)
        parts = (self.frames, self.actions, self.first, self.rewards, self.terminated, self.mask)
        frames, actions, first, rewards, terminated, mask = (part.to(device) for part in parts)
        before = None if self.before is None else self.before.to(device)
        return Batch(frames, actions, first, rewards, terminated, mask, vectors, before)


def clip_batch(episodes: Sequence[Episode], span: int, starts: Sequence[int] | None = None) -> Batch:
    """Lay episodes (or slices of episodes) side by side, padded behind to `span` frames.

    Args:
        episodes: at least one, all of one kind.
        span: T, frames per clip.
        starts: index of each slice's first frame in its episode, 0 if not given.

    Raises:
        ValueError: if an episode has more than `span` frames.
    """
    longest = max(len(e.frames) for e in episodes)
    if longest > span:
        raise ValueError(f"A clip of {longest} frames does not fit a span of {span}; cut it or use a longer span.")
    starts = [0] * len(episodes) if starts is None else starts
    shape = (len(episodes), span)
    frames = np.zeros((*shape, *episodes[0].frames.shape[1:]), np.uint8)
    actions = np.zeros((*shape, *episodes[0].actions.shape[1:]), episodes[0].actions.dtype)
    rewards, terminated = np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
    first, mask = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    width = 0 if episodes[0].vectors is None else episodes[0].vectors.shape[1]
    vectors = np.zeros((*shape, width), np.float32)
    for i, (episode, start) in enumerate(zip(episodes, starts, strict=True)):
        n = len(episode.frames)
        frames[i, :n], mask[i, :n], first[i, 0] = episode.frames, True, start == 0
        actions[i, 1:n], rewards[i, 1:n] = episode.actions, episode.rewards
        terminated[i, n - 1] = episode.terminated
        if episode.vectors is not None:
            vectors[i, :n] = episode.vectors
    return Batch(
        frames=torch.from_numpy(frames),
        actions=torch.from_numpy(actions),
        first=torch.from_numpy(first),
        rewards=torch.from_numpy(rewards),
        terminated=torch.from_numpy(terminated),
        mask=torch.from_numpy(mask),
        vectors=torch.from_numpy(vectors) if width else None,
    )


class ClipSampler:
    """Random clips of a store; batch `step` is a pure function of (seed, step), so a resumed training sees the same.

    An episode that fits is taken whole. Of a longer one, half of the clips end with its end, where rewards usually are,
    and half begin anywhere. Clips of like length share a batch, which is padded only to its longest: `BUCKETS` batches
    are drawn at once, sorted by length and dealt out in random order.

    Args:
        store: the episodes.
        span: most frames per clip.
        batch_size: B.
        seed: of the draws.
        episodes: indices to draw from, all if not given.
        history: most frames before each clip that come with it.
        newest: share of the clips that is drawn from the last quarter of the episodes, the others from all.
        by_length: draw episodes in proportion to their frames, so that all frames are seen about as often; if not, all
            episodes are.

    A sampler can be sent to other processes (`torch.utils.data.DataLoader` with workers, forked or spawned). All its
    state is the number of the step, so that the batch of a step is the same in all of them.

    Raises:
        ValueError: if there is nothing to draw from, or span or batch_size is too small.
    """

    def __init__(
        self,
        store: EpisodeStore,
        span: int,
        batch_size: int,
        seed: int,
        episodes: Sequence[int] | None = None,
        history: int = 0,
        newest: float = 0.0,
        by_length: bool = False,
    ):
        self.history, self.newest = history, newest
        self.store, self.span, self.batch_size, self.seed = store, span, batch_size, seed
        self.episodes = np.arange(len(store)) if episodes is None else np.asarray(episodes, np.int64)
        if not len(self.episodes):
            raise ValueError(f"{store.path} has no episodes to train on; collect some with `lssvwm collect`.")
        if span < 2 or batch_size < 1:
            raise ValueError(f"Need a span of at least 2 frames and clips to batch, got {span} and {batch_size}.")
        self.episodes_of = _Reader(store)
        # Up to and with each episode, what draws count: frames, or episodes.
        self._ends = np.cumsum(store.lengths[self.episodes] + 1 if by_length else np.ones_like(self.episodes))

    def batch(self, step: int, span: int | None = None) -> Batch:
        """The batch of a training step, of clips of at most `span` frames (the sampler's if not given)."""
        span = span or self.span
        group = np.random.default_rng([self.seed, step // BUCKETS])
        drawn = self.episodes[self._draw(group, BUCKETS * self.batch_size)]
        by_length = drawn[np.argsort(np.minimum(self.store.lengths[drawn] + 1, span), kind="stable")]
        bucket = int(group.permutation(BUCKETS)[step % BUCKETS])
        rng = np.random.default_rng([self.seed, step, 1])
        slices, starts, earlier = [], [], []
        for i in by_length[bucket * self.batch_size : (bucket + 1) * self.batch_size].tolist():
            frames = int(self.store.lengths[i]) + 1
            spare = max(0, frames - span)
            start = spare if rng.random() < 0.5 else int(rng.integers(spare + 1))
            begin = max(0, start - self.history)
            whole = self.episodes_of.read(i, begin, min(frames, start + span))
            slices.append(whole.cut(start - begin, len(whole.frames)))
            earlier.append(whole.cut(0, start - begin) if start > begin else None)
            starts.append(start)
        clips = clip_batch(slices, max(len(s.frames) for s in slices), starts)
        return dataclasses.replace(clips, before=history_of(earlier))

    def _draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        count, whole = len(self.episodes), int(self._ends[-1])
        drawn = rng.integers(whole, size=size)
        if self.newest:
            before = count - max(1, count // 4)
            begin = int(self._ends[before - 1]) if before else 0
            drawn = np.where(rng.random(size) < self.newest, rng.integers(begin, whole, size), drawn)
        return np.searchsorted(self._ends, drawn, side="right")


def history_of(earlier: Sequence[Episode | None]) -> Before | None:
    """Slices side by side with padding in front; None for rows without. None if no row has any."""
    some = [episode for episode in earlier if episode is not None]
    if not some:
        return None
    longest = max(len(episode.frames) for episode in some)
    nothing = some[0].cut(0, 1)
    laid = clip_batch([nothing if episode is None else episode for episode in earlier], longest)
    counts = torch.tensor([0 if episode is None else len(episode.frames) for episode in earlier])
    place = torch.arange(longest) - (longest - counts)[:, None]
    rows, mask = torch.arange(len(earlier))[:, None], place >= 0
    parts = (
        None if part is None else part[rows, place % longest] for part in (laid.frames, laid.actions, laid.vectors)
    )
    frames, actions, vectors = parts
    assert frames is not None and actions is not None
    return Before(frames, actions, mask, vectors)


class StreamSampler:
    """Episodes from first frame to last, a chunk of `span` frames per step, for training with carried memory.

    Each row of the batch goes through random episodes of its own, one after the other. Where `batch.first[:, 0]` is
    True a new episode begins and the row's memory has to be empty; elsewhere the chunk goes on where the row's last
    one ended. Batch `step` is a pure function of (seed, step).

    Args, Raises: as `ClipSampler`.
    """

    def __init__(
        self, store: EpisodeStore, span: int, batch_size: int, seed: int, episodes: Sequence[int] | None = None
    ):
        clips = ClipSampler(store, span, batch_size, seed, episodes)  # checks the arguments
        self.store, self.span, self.episodes, self.episodes_of = store, span, clips.episodes, clips.episodes_of
        self._rngs = [np.random.default_rng([seed, row]) for row in range(batch_size)]
        # Per row the episodes drawn so far and the step at which each begins.
        self._drawn: list[list[int]] = [[] for _ in range(batch_size)]
        self._begins: list[list[int]] = [[0] for _ in range(batch_size)]

    def batch(self, step: int) -> Batch:
        """The chunks of a training step."""
        slices, starts = [], []
        for row in range(len(self._rngs)):
            episode, start = self._at(row, step)
            frames = int(self.store.lengths[episode]) + 1
            # One frame before the chunk, for the action that led into its first frame.
            before = 1 if start else 0
            slices.append(self.episodes_of.read(episode, start - before, min(frames, start + self.span)))
            starts.append(start)
        return chunk_batch(slices, starts, self.span)

    def _at(self, row: int, step: int) -> tuple[int, int]:
        """Episode and first frame of a row's chunk."""
        drawn, begins = self._drawn[row], self._begins[row]
        while begins[-1] <= step:
            episode = int(self.episodes[self._rngs[row].integers(len(self.episodes))])
            drawn.append(episode)
            begins.append(begins[-1] + math.ceil((int(self.store.lengths[episode]) + 1) / self.span))
        k = bisect.bisect_right(begins, step) - 1
        return drawn[k], (step - begins[k]) * self.span


def chunk_batch(slices: Sequence[Episode], starts: Sequence[int], span: int) -> Batch:
    """As `clip_batch`, of slices that begin one frame before `start` unless it is 0, to tell the action since then."""
    whole = clip_batch(slices, span + 1)
    shift = torch.tensor([int(start > 0) for start in starts])
    place = torch.arange(span) + shift[:, None]
    rows = torch.arange(len(slices))[:, None]
    parts = {f.name: getattr(whole, f.name) for f in dataclasses.fields(whole)}
    moved: dict[str, Any] = {name: None if part is None else part[rows, place] for name, part in parts.items()}
    first = torch.zeros(len(slices), span, dtype=torch.bool)
    first[:, 0] = shift == 0
    return Batch(**{**moved, "first": first})


class _Reader:
    """Slices of a store's episodes, decoded into RAM once if the store is small; another process reads its files."""

    def __init__(self, store: EpisodeStore):
        self.store = store
        self._decoded: list[Episode] | None = None
        if store.frame_bytes <= CACHE_BYTES:
            self._decoded = [episode for shard in store.episodes_of_shards() for episode in shard]

    def __getstate__(self) -> dict[str, Any]:
        return {"store": self.store, "_decoded": None}

    def read(self, i: int, start: int, stop: int) -> Episode:
        """As `EpisodeStore.read`."""
        if self._decoded is None:
            return self.store.read(i, start, stop)
        return self._decoded[i].cut(start, stop)


def hold_out(store: EpisodeStore, fraction: float = 0.1) -> tuple[list[int], list[int]]:
    """Indices of the episodes to train on and of those held out, the same for the same store.

    Every k-th episode is held out, so that both parts have episodes from all of the collection; at least one is held
    out if there are two.
    """
    every = max(2, round(1 / fraction))
    held_out = list(range(every - 1, len(store), every)) or list(range(1, len(store)))[-1:]
    chosen = set(held_out)
    return [i for i in range(len(store)) if i not in chosen], held_out
