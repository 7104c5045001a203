"""Is memory what decides? Of two histories that differ in one thing seen long ago, outputs must differ as reality does.

Memories are also changed: of what changes outputs when it is exchanged or removed, one knows that it was used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lssvwm_rl.data.episode import Episode
from lssvwm_rl.data.pairs import Pair
from lssvwm_rl.model.engine import Engine, engine_of
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.predict import observe_episodes
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.progress import Update

RIGHT, EXCHANGED, WIPED = CHANGES = ("right", "exchanged", "wiped")
WINDOW = ("keys.", "values.", "frames")
"""Beginnings of the names of a memory's tensors that are the window, and count its frames."""


@dataclass(frozen=True)
class Shares:
    """Of histories whose output is nearer to one reality than to the other; by chance, or without memory, 0.5."""

    pairs: int
    """How many there are; each counts with both of its histories."""
    right: float
    """Nearer to the history's own reality, from its own memory."""
    exchanged: float
    """Nearer to the reality of the history that all of the memory but the window is from; the window is the other's."""
    wiped: float
    """Nearer to the reality of the history that the window is from; the rest of the memory is empty."""


@dataclass(frozen=True)
class PairedShares:
    """What pairs showed; None where there are none that differ so."""

    reward: Shares | None
    """Of pairs that differ in the reward or the end that come with the compared frame."""
    frames: Shares | None
    """Of pairs that differ in the compared frame."""


@dataclass(frozen=True)
class Answers:
    """What a model says at the compared frames of P pairs; index 0 of the first axis is from the first history."""

    reward: np.ndarray
    """(2, P) float32, once the real frame is seen."""
    terminated: np.ndarray
    """(2, P) float32, the probability of the end, likewise."""
    frames: np.ndarray
    """(2, P, H, W, C) uint8, predicted before."""


def measure_pairs(
    model: WorldModel | Engine, pairs: Sequence[Pair], denoise_steps: int = 4, rows: int = 32
) -> PairedShares:
    """Shares of outputs that follow the memory, see `paired_answers` and `paired_shares`.

    Raises:
        ValueError: if there are no pairs, or they do not fit the model.
    """
    return paired_shares(pairs, paired_answers(model, pairs, denoise_steps, rows))


def paired_answers(
    model: WorldModel | Engine,
    pairs: Sequence[Pair],
    denoise_steps: int = 4,
    rows: int = 32,
    progress: Update | None = None,
) -> dict[str, Answers]:
    """What a model says from the memory of either history of each pair.

    Both histories meet the same noise, so what does not depend on what differs gives the same for both.

    Args:
        denoise_steps: network passes per frame.
        rows: pairs side by side.
        progress: called with (pairs, all of them).

    Returns:
        RIGHT: from the memories as they are; EXCHANGED: from memories whose window is the other history's; WIPED: from
        memories of which only the window is left. See `with_window_of`.

    Raises:
        ValueError: if there are no pairs, or they do not fit the model.
    """
    if not pairs:
        raise ValueError("No pair is given; play more worlds, or take a smaller window.")
    engine = engine_of(model)
    parts = []
    for start in range(0, len(pairs), rows):
        parts.append(_answers(engine, pairs[start : start + rows], start, denoise_steps))
        if progress is not None:
            progress(min(start + rows, len(pairs)), len(pairs))
    return {
        change: Answers(
            np.concatenate([part[change].reward for part in parts], axis=1),
            np.concatenate([part[change].terminated for part in parts], axis=1),
            np.concatenate([part[change].frames for part in parts], axis=1),
        )
        for change in CHANGES
    }


def paired_shares(pairs: Sequence[Pair], answers: dict[str, Answers]) -> PairedShares:
    """How many answers are nearer to the reality that they should follow; those as near to both count half.

    Frames are compared by the squared error of the pixels in which the realities differ, rewards and ends by the sum of
    both absolute errors.

    Args:
        answers: as `paired_answers` gives them.
    """
    in_frame = np.array([pair.in_frame for pair in pairs], bool)
    frames = {change: _nearer_frames(pairs, each.frames) for change, each in answers.items()}
    outcomes = {change: _nearer_outcomes(pairs, each) for change, each in answers.items()}
    return PairedShares(_shares(outcomes, ~in_frame), _shares(frames, in_frame))


def with_window_of(memory: Memory, window: Memory) -> Memory:
    """All that a memory holds (states, and whatever else is not the window), with the window of another."""
    kept, taken = memory.tensors(), window.tensors()
    return Memory.from_tensors({name: taken[name] if name.startswith(WINDOW) else t for name, t in kept.items()})


def _answers(engine: Engine, pairs: Sequence[Pair], seed: int, denoise_steps: int) -> dict[str, Answers]:
    """Of P pairs; the noise of pair i is seeded by seed + i."""
    count, model = len(pairs), engine.model
    episodes = [pair.first for pair in pairs] + [pair.second for pair in pairs]
    memory = observe_episodes(engine, [episode.cut(0, len(episode)) for episode in episodes])
    other = memory.select(torch.arange(2 * count).roll(count))
    memories = {
        RIGHT: memory,
        EXCHANGED: with_window_of(memory, other),
        WIPED: with_window_of(model.initial_memory(2 * count), memory),
    }
    frames, actions, vectors = _last(episodes, model)
    found = {}
    for change, each in memories.items():
        noise = [torch.Generator(model.device).manual_seed(seed + i) for _ in range(2) for i in range(count)]
        predicted = engine.denoise(each, actions, noise, denoise_steps, vectors)
        given = None if vectors is None else vectors[:, None]
        _, read = engine.observe(each, frames[:, None], actions[:, None], given)
        parts = (read.reward[:, 0], read.terminated[:, 0], predicted)
        found[change] = Answers(*(part.cpu().numpy().reshape(2, count, *part.shape[1:]) for part in parts))
    return found


def _last(episodes: Sequence[Episode], model: WorldModel) -> tuple[Tensor, Tensor, Tensor | None]:
    """The compared frames (N, H, W, C), the actions (N[, A]) that led to them, and the vectors (N, V) of a model that
    has some, if they are known; on the model's device."""
    frames = torch.from_numpy(np.stack([episode.frames[-1] for episode in episodes])).to(model.device)
    actions = torch.from_numpy(np.stack([episode.actions[-1] for episode in episodes])).to(model.device)
    known = [episode.vectors[-1] for episode in episodes if episode.vectors is not None]
    vectors = torch.from_numpy(np.stack(known)).to(model.device) if known and model.config.vector_size else None
    return frames, actions, vectors


def _nearer_frames(pairs: Sequence[Pair], predicted: np.ndarray) -> np.ndarray:
    """(2, P), see `_nearer`."""
    real = np.stack([[pair.first.frames[-1] for pair in pairs], [pair.second.frames[-1] for pair in pairs]])
    differ = (real[0] != real[1]).any(axis=-1, keepdims=True)
    real, guess = real.astype(np.int64), predicted.astype(np.int64)
    own, other = (((guess - each) ** 2 * differ).sum(axis=(2, 3, 4)) for each in (real, real[::-1]))
    return _nearer(own, other)


def _nearer_outcomes(pairs: Sequence[Pair], answers: Answers) -> np.ndarray:
    """(2, P), see `_nearer`."""
    both = [[pair.first for pair in pairs], [pair.second for pair in pairs]]
    reward = np.array([[float(episode.rewards[-1]) for episode in episodes] for episodes in both])
    ended = np.array([[float(episode.terminated) for episode in episodes] for episodes in both])
    own, other = (
        np.abs(answers.reward - rewards) + np.abs(answers.terminated - ends)
        for rewards, ends in ((reward, ended), (reward[::-1], ended[::-1]))
    )
    return _nearer(own, other)


def _nearer(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """1 where the first distance is the smaller one, 0.5 where they are equal, 0 elsewhere."""
    return (1 + np.sign(other - own)) / 2


def _shares(nearer: dict[str, np.ndarray], chosen: np.ndarray) -> Shares | None:
    """Means over the chosen pairs, (P,) bool."""
    if not chosen.any():
        return None
    right, exchanged, wiped = (float(nearer[change][:, chosen].mean()) for change in CHANGES)
    return Shares(int(chosen.sum()), right, exchanged, wiped)
