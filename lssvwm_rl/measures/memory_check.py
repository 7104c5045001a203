"""What a model predicts with the memory of whole episodes, and with all forgotten but the last few frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lssvwm_rl.data.clips import Batch, clip_batch
from lssvwm_rl.data.store import Episode
from lssvwm_rl.measures.memory_formed import MIN_FRAMES, Contrast, MemoryFormed, certainty
from lssvwm_rl.measures.psnr import decibels, squared_error
from lssvwm_rl.measures.returning import returning_ages
from lssvwm_rl.model.config import BackboneConfig, attention_reach
from lssvwm_rl.model.engine import Engine, engine_of
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.predict import OBSERVED
from lssvwm_rl.model.world_model import WorldModel

FRAMES = 2048  # observed with memory
RECALLED = 64  # frames predicted
TOLD = 64  # frames of each class whose rewards are told
FORGETTING = 2048  # frames observed to see how far back rewards reach
MIN_PIXELS = 16  # of a frame that returns
SIDE = 64  # larger frames are looked at on a coarser grid of pixels
ROWS = 16  # side by side

Place = tuple[int, int]
"""(episode, frame)."""


def window_of(config: BackboneConfig) -> int:
    """Frames, the own one included, that a wiped model of any kind sees: those of the window, at least two."""
    return max(2, config.window)


@dataclass(frozen=True)
class _Classes:
    """Frames of two classes, told by what a head predicts."""

    head: int  # 0 rewards, 1 ends
    places: list[Place]
    values: np.ndarray  # (N,) float64, what the head should predict
    high: np.ndarray  # (N,) bool
    threshold: float

    def where(self, which: np.ndarray) -> _Classes:
        """Those of `which` (N,) bool."""
        places = [self.places[k] for k in np.flatnonzero(which)]
        return _Classes(self.head, places, self.values[which], self.high[which], self.threshold)


class MemoryCheck:
    """Measures models on the same frames of the same episodes; what is looked for in them is found once.

    Args:
        episodes: whole ones; as many as have `FRAMES` frames together are used, the last one cut.
        window: see `window_of`.
        of: whose episodes they are, "held-out" or "training".
    """

    def __init__(self, episodes: Sequence[Episode], window: int, of: str = "held-out"):
        self.window, self.of = window, of
        self.episodes = list(_longer(episodes, window))
        step = max(1, -(-max((max(e.frames.shape[1:3]) for e in self.episodes), default=1) // SIDE))
        self._pixels = (slice(None), slice(None, None, step), slice(None, None, step))
        ages = [returning_ages(e.frames[self._pixels], window) for e in self.episodes]
        self._recalled = _recalled(ages, window)
        self._ages = np.stack([ages[i][t] for i, t in self._recalled]) if self._recalled else None
        self._rewards, self._ends = _rewards(self.episodes, window), _ends(self.episodes, window)

    def measure(self, model: WorldModel | Engine) -> MemoryFormed:
        """Predict with and without memory.

        Args:
            model: in evaluation mode.

        Raises:
            ValueError: if the episodes are not of its frames, actions and vectors.
        """
        engine = engine_of(model)
        backbone = engine.model.config.backbone
        kind, reach = backbone.kind, attention_reach(backbone)
        frames = sum(len(e.frames) - self.window for e in self.episodes)
        if not frames:
            return MemoryFormed(kind, self.window, reach, 0, self.of)
        images, read = self._remember(engine)
        reward, ended = (
            None if classes is None else self._told(engine, classes, read, self.window)
            for classes in (self._rewards, self._ends)
        )
        beyond = self._reward_reach(engine, reward, read)
        recall, by_age, explained = self._recall(engine, images)
        return MemoryFormed(kind, self.window, reach, frames, self.of, recall, by_age, explained, reward, ended, beyond)

    def _remember(self, engine: Engine) -> tuple[dict[Place, np.ndarray], list[np.ndarray]]:
        """With memory: the predicted images of `_recalled`, and per episode what heads read, (2, T+1) float64: rewards
        and probabilities of an end."""
        images: dict[Place, np.ndarray] = {}
        read: dict[int, np.ndarray] = {}
        order = sorted(range(len(self.episodes)), key=lambda i: len(self.episodes[i].frames))
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            longest = len(self.episodes[rows[-1]].frames)
            batch = clip_batch([self.episodes[i] for i in rows], longest).to(engine.model.device)
            wanted = [place for place in self._recalled if place[0] in rows]
            stops = sorted({*range(OBSERVED, longest, OBSERVED), *(t for _, t in wanted), longest})
            memory, parts, seen = engine.model.initial_memory(len(rows)), [], 0
            for stop in stops:
                memory, heads = _observe(engine, memory, batch, seen, stop)
                parts.append(heads)
                here = [place for place in wanted if place[1] == stop]
                if here:
                    at = torch.tensor([rows.index(i) for i, _ in here])
                    images |= self._denoise(engine, memory.select(at), here)
                seen = stop
            heads = np.concatenate(parts, axis=-1)
            read |= {i: heads[:, row] for row, i in enumerate(rows)}
        return images, [read[i] for i in range(len(self.episodes))]

    def _denoise(self, engine: Engine, memory: Memory, places: list[Place]) -> dict[Place, np.ndarray]:
        """The images that follow memories of the frames before, in one pass: the mean of what may come."""
        device = engine.model.device
        led = [self.episodes[i].cut(t - 1, t + 1) for i, t in places]
        batch = clip_batch(led, 2).to(device)
        # A place's noise is the same with and without memory.
        noise = [torch.Generator(device).manual_seed(self._recalled.index(place)) for place in places]
        vector = batch.vectors[:, 1] if batch.vectors is not None and engine.model.config.vector_size else None
        images = engine.denoise(memory, batch.actions[:, 1], noise, 1, vector).cpu().numpy()[self._pixels]
        return dict(zip(places, images, strict=True))

    def _forget(
        self, engine: Engine, places: list[Place], frames: int
    ) -> Iterator[tuple[list[Place], Memory, np.ndarray]]:
        """Groups of places, their memories of `frames` frames up to each, and what heads read from the last (2, n)."""
        for start in range(0, len(places), ROWS):
            group = places[start : start + ROWS]
            cuts = [self.episodes[i].cut(t - frames + 1, t + 1) for i, t in group]
            batch, memory = clip_batch(cuts, frames).to(engine.model.device), engine.model.initial_memory(len(group))
            for seen in range(0, frames, OBSERVED):
                memory, heads = _observe(engine, memory, batch, seen, min(frames, seen + OBSERVED))
            yield group, memory, heads[:, :, -1]

    def _told(self, engine: Engine, classes: _Classes, read: list[np.ndarray], seen: int) -> Contrast:
        """How well classes are told with memory, and from the last `seen` frames."""
        memory = np.array([read[i][classes.head, t] for i, t in classes.places])
        wiped = np.concatenate([heads[classes.head] for *_, heads in self._forget(engine, classes.places, seen)])
        errors = [np.square(_symlog(values) - _symlog(classes.values)) for values in (memory, wiped)]
        right = [(values > classes.threshold) == classes.high for values in (memory, wiped)]
        rates = [(r[classes.high].mean() + r[~classes.high].mean()) / 2 for r in right]
        return Contrast(float(rates[0]), float(rates[1]), len(memory), certainty(errors[1] - errors[0], classes.high))

    def _reward_reach(self, engine: Engine, reward: Contrast | None, read: list[np.ndarray]) -> int:
        """The last one of windows that double without which rewards are told worse."""
        reach, budget, told = 0, FORGETTING, self._rewards
        while told is not None and reward is not None and reward.tells:
            reach = 2 * reach or self.window
            told = told.where(np.array([t >= 2 * reach for _, t in told.places]))
            budget -= len(told.places) * 2 * reach
            if budget < 0 or min(told.high.sum(), (~told.high).sum()) < MIN_FRAMES // 2:
                break
            reward = self._told(engine, told, read, 2 * reach)
        return reach

    def _recall(
        self, engine: Engine, images: dict[Place, np.ndarray]
    ) -> tuple[Contrast | None, dict[tuple[int, int], Contrast], Contrast | None]:
        """PSNR of what returns: in all, by age, and of what the window shows."""
        if self._ages is None:
            return None, {}, None
        forgot: dict[Place, np.ndarray] = {}
        before = [(i, t - 1) for i, t in self._recalled]
        for group, memory, _ in self._forget(engine, before, self.window - 1):
            forgot |= self._denoise(engine, memory, [(i, t + 1) for i, t in group])
        real = np.stack([self.episodes[i].frames[t : t + 1][self._pixels][0] for i, t in self._recalled])
        errors = [squared_error(np.stack([by[p] for p in self._recalled]), real) for by in (images, forgot)]
        oldest, ages, by_age, k = int(self._ages.max()), self._ages, {}, self.window
        while k <= oldest:
            contrast = _pooled(errors, (ages >= k) & (ages < 2 * k))
            if contrast is not None:
                by_age[k, min(2 * k - 1, oldest)] = contrast
            k *= 2
        explained = _pooled(errors, (ages > 0) & (ages < self.window))
        return _pooled(errors, ages >= self.window), by_age, explained


def _longer(episodes: Sequence[Episode], window: int) -> Iterator[Episode]:
    """Those with something beyond the window, as long as there are frames left to observe."""
    left = FRAMES
    for episode in episodes:
        episode = episode.cut(0, min(left, len(episode.frames)))
        if len(episode.frames) > window:
            left -= len(episode.frames)
            yield episode
        if left <= window:
            return


def _observe(engine: Engine, memory: Memory, batch: Batch, start: int, stop: int) -> tuple[Memory, np.ndarray]:
    """Observe frames start..stop (exclusive); what heads read from them, (2, B, n) float64."""
    part = slice(start, stop)
    vectors = None if batch.vectors is None else batch.vectors[:, part]
    memory, heads = engine.observe(memory, batch.frames[:, part], batch.actions[:, part], vectors)
    return memory, torch.stack([heads.reward, heads.terminated]).double().cpu().numpy()


def _recalled(ages: Sequence[np.ndarray], window: int) -> list[Place]:
    """Frames of which something returns, from everywhere and of all ages that there are; none if they are too few."""
    groups: dict[int, list[Place]] = {}
    for i, of_episode in enumerate(ages):
        returning = of_episode >= window
        for t in np.flatnonzero(returning.sum(axis=(1, 2)) >= MIN_PIXELS):
            age = int(np.median(of_episode[t][returning[t]]))
            groups.setdefault((age // window).bit_length(), []).append((i, int(t)))
    places = [place for group in groups.values() for place in _spread(group, RECALLED // len(groups))]
    return sorted(places) if len(places) >= MIN_FRAMES else []


def _spread(items: Sequence[Place], count: int) -> list[Place]:
    """At most so many of them, evenly spaced."""
    chosen = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[k] for k in chosen]


def _rewards(episodes: Sequence[Episode], window: int) -> _Classes | None:
    """High and low rewards; at events, which are ends and rewards other than the most frequent, if there are both."""
    places = [(i, t) for i, e in enumerate(episodes) for t in range(window, len(e.frames))]
    values = np.array([episodes[i].rewards[t - 1] for i, t in places], np.float64)
    if not len(values):
        return None
    known, counts = np.unique(values, return_counts=True)
    ends = np.array([episodes[i].terminated and t == len(episodes[i]) for i, t in places])
    events = (values != known[counts.argmax()]) | ends
    for pool in (events, np.ones_like(events)):
        told = _two(0, [places[k] for k in np.flatnonzero(pool)], values[pool])
        if told is not None:
            return told
    return None


def _ends(episodes: Sequence[Episode], window: int) -> _Classes | None:
    """Frames with which an episode terminated, and others."""
    places = [(i, t) for i, e in enumerate(episodes) for t in range(window, len(e.frames))]
    return _two(1, places, np.array([float(episodes[i].terminated and t == len(episodes[i])) for i, t in places]))


def _two(head: int, places: list[Place], values: np.ndarray) -> _Classes | None:
    """High and low values (N,), evenly spaced ones of each; None if there are too few of either.

    What divides them is the middle between the mean of those above all values' mean and the mean of the others.
    """
    high = values > values.mean() if len(values) else np.zeros(0, np.bool_)
    if min(high.sum(), (~high).sum()) < MIN_FRAMES // 2:
        return None
    threshold = float(values[high].mean() + values[~high].mean()) / 2
    value_of = dict(zip(places, values, strict=True))
    groups = [[places[k] for k in np.flatnonzero(which)] for which in (high, ~high)]
    chosen = sorted(place for group in groups for place in _spread(group, TOLD))
    kept = np.array([value_of[place] for place in chosen])
    return _Classes(head, chosen, kept, kept > threshold, threshold)


def _pooled(errors: list[np.ndarray], pixels: np.ndarray) -> Contrast | None:
    """PSNR over pixels (N, H, W) bool of frames with squared errors (N, H, W), with memory and wiped; None if too few
    frames have any."""
    counts = pixels.sum(axis=(1, 2))
    shown = counts > 0
    if shown.sum() < MIN_FRAMES:
        return None
    memory, wiped = ((error * pixels).sum(axis=(1, 2))[shown] for error in errors)
    differences = (wiped - memory) / counts[shown]
    ours, theirs = (decibels(float(sums.sum() / counts.sum())) for sums in (memory, wiped))
    return Contrast(ours, theirs, int(shown.sum()), certainty(differences, np.zeros(len(differences), np.bool_)))


def _symlog(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.log1p(np.abs(values))
