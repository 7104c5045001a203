"""Does what a dream has guessed stay as it was guessed? While an action changes nothing in reality, dreams should hang.

A flip is a change of what is shown while nothing should change: a guess that was not made once, but again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.episode import Episode
from lssvwm_rl.data.likeness import shares_off
from lssvwm_rl.model.engine import Engine
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.predict import observe_episodes, roll_out

CHANGED_ABOVE = 0.005  # share of pixels that are off: with 7 by 7 cells in view, a quarter of a cell


@dataclass(frozen=True)
class Way:
    """How dreams are dreamt."""

    engine: Engine
    denoise_steps: int = 4
    """Network passes per frame."""
    temperature: float = 1.0
    """Times the noise."""


@dataclass(frozen=True)
class StillDreams:
    """N dreams of one way, each begun at a moment of a real episode, led on along its real actions and then stilled."""

    flips: np.ndarray
    """(N,) int64, changes of what is shown while the action is one that changes nothing."""
    off: np.ndarray
    """(N,) float64, share of the last led frame's pixels that are off from the real one's."""
    guessed: np.ndarray
    """(N,) bool, whether led frames of this moment depend on the noise, in dreams of the first way."""
    above: float
    """Share of pixels that makes another view."""

    def shares(self, chosen: np.ndarray | None = None) -> dict[str, float]:
        """Of the dreams that are chosen (N,) bool, at least one: the share that "flip", "flips" per dream, and the
        share of last led frames that are "wrong"."""
        flips, off = (values if chosen is None else values[chosen] for values in (self.flips, self.off))
        wrong = (off > self.above).mean()
        return {"flip": float((flips > 0).mean()), "flips": float(flips.mean()), "wrong": float(wrong)}


def count_flips(frames: np.ndarray, above: float = CHANGED_ABOVE) -> np.ndarray:
    """How often each dream shows another view than before, (N,) int64.

    Each frame is compared with the first one of the view that was shown last, so views that change slowly count, too.

    Args:
        frames: (N, T, H, W, C) uint8, T at least 1; the first ones are what should stay.
        above: share of pixels (`likeness.shares_off`) above which it is another view.
    """
    shown, flips = frames[:, 0].copy(), np.zeros(len(frames), np.int64)
    for t in range(1, frames.shape[1]):
        other = shares_off(frames[:, t], shown) > above
        shown[other] = frames[other, t]
        flips += other
    return flips


def differ(frames: np.ndarray, above: float = CHANGED_ABOVE) -> np.ndarray:
    """Whether dreams of one moment and several seeds show different views at some time, (N,) bool.

    Args:
        frames: (S, N, T, H, W, C) uint8, of S seeds; all are compared with the first one's.
    """
    found = np.zeros(frames.shape[1], bool)
    for other in frames[1:]:
        for t in range(frames.shape[2]):
            found |= shares_off(other[:, t], frames[0, :, t]) > above
    return found


def draw_moments(episodes: Sequence[Episode], count: int, lead: int, seed: int = 0) -> list[tuple[int, int]]:
    """Different moments, each as an episode's index and how many of its frames were seen, evenly over all of them.

    From each, `lead` real steps follow that do not end the episode. If there are fewer moments, all of them come back.

    Raises:
        ValueError: if there is no such moment.
    """
    moments = [(i, seen) for i, episode in enumerate(episodes) for seen in range(1, len(episode) - lead + 1)]
    if not moments:
        raise ValueError(f"No episode goes on for {lead} steps before its last one; lead dreams by fewer.")
    order = np.random.default_rng(seed).permutation(len(moments))[:count]
    return [moments[i] for i in sorted(order.tolist())]


def measure_flips(
    ways: Sequence[Way],
    episodes: Sequence[Episode],
    moments: Sequence[tuple[int, int]],
    still_action: Any,
    lead: int = 1,
    still: int = 12,
    seeds: int = 8,
    above: float = CHANGED_ABOVE,
    rows: int = 64,
) -> list[StillDreams]:
    """Dreams of the same moments and the same seeds in several ways; ends that are dreamt do not end them.

    Args:
        ways: at least one. Dreams of the first one say where something is guessed. All engines are of one model, whose
            vectors are predicted.
        episodes: that the model was not trained on.
        moments: N, see `draw_moments`.
        still_action: of the action space; changes nothing in reality.
        lead: dreamt steps along the real actions.
        still: steps with the action that changes nothing.
        seeds: how many lead a dream in the first way; that there are two equal guesses is missed with probability
            2^(1 - seeds).
        above: see `count_flips`.
        rows: dreams side by side.

    Returns:
        One for each way; dreams are in the order of the moments.

    Raises:
        ValueError: if there are no moments or ways, fewer than 2 seeds, or numbers of steps below 1.
    """
    if not moments or not ways or seeds < 2 or min(lead, still, rows) < 1:
        raise ValueError(
            f"{len(moments)} moments, {len(ways)} ways, {seeds} seeds, lead {lead}, still {still} and rows {rows} "
            "leave nothing to compare; use at least 1 of each, and 2 seeds."
        )
    found: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[] for _ in ways]
    for start in range(0, len(moments), rows):
        part = moments[start : start + rows]
        cut = [episodes[i].cut(seen - 1, seen + lead) for i, seen in part]
        memory = observe_episodes(ways[0].engine, [episodes[i].cut(0, seen) for i, seen in part])
        actions = clip_batch(cut, lead + 1).actions[:, 1:]
        led = [_roll(ways[0], memory, actions, start * seeds + s, seeds) for s in range(seeds)]
        guessed = differ(np.stack(led), above)
        real = np.stack([episode.frames[-1] for episode in cut])
        rest = torch.as_tensor(still_action).to(actions.dtype).expand(len(part), still, *actions.shape[2:])
        for way, parts in zip(ways, found, strict=True):
            frames = _roll(way, memory, torch.cat([actions, rest], dim=1), start * seeds, seeds)[:, lead - 1 :]
            parts.append((count_flips(frames, above), shares_off(frames[:, 0], real), guessed))
    joined = [tuple(np.concatenate(each) for each in zip(*parts, strict=True)) for parts in found]
    return [StillDreams(flips, off, guessed, above) for flips, off, guessed in joined]


def _roll(way: Way, memory: Memory, actions: torch.Tensor, first: int, apart: int) -> np.ndarray:
    """Free-running frames (B, F, H, W, C), with noise seeded by `first`, and `apart` more for every row."""
    device = way.engine.model.device
    noise = [torch.Generator(device).manual_seed(first + apart * row) for row in range(len(actions))]
    return roll_out(way.engine, memory, actions, noise, way.denoise_steps, temperature=way.temperature)
