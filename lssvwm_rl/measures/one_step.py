"""One dreamt step from every real history: what is wrong, and how often the data had been there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.likeness import shares_off
from lssvwm_rl.data.store import Episode
from lssvwm_rl.data.visits import Visits
from lssvwm_rl.model.engine import Engine, engine_of
from lssvwm_rl.model.predict import observe_batch
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.progress import Update

WRONG_ABOVE = 0.05  # share of pixels that are off: the frame shows another view
GROUPS = (0, 1, 5, 20)  # fewest visits of each group; up to the next one


@dataclass(frozen=True)
class OneStep:
    """N real steps, each dreamt from the real history before it."""

    visits: np.ndarray
    """(N,) int64, how often the data had the view and the action."""
    off: np.ndarray
    """(N,) float64, share of the dreamt frame's pixels that are off by more than `likeness.OFF`."""
    reward_error: np.ndarray
    """(N,) float64, dreamt less real."""
    end_error: np.ndarray
    """(N,) float64, dreamt probability of the end less whether it ended."""
    place: np.ndarray
    """(N, 2) int64, episode and step."""
    frames: np.ndarray
    """(N, H, W, C) uint8, dreamt."""
    scale: float
    """Largest size of a reward in the episodes, 1 if there is none."""

    @property
    def wrong(self) -> np.ndarray:
        """(N,) bool, frames that show another view than the real one."""
        return self.off > WRONG_ABOVE

    @property
    def false_payment(self) -> np.ndarray:
        """(N,) bool, rewards that are too large by half of the largest one."""
        return self.reward_error > self.scale / 2

    def table(self) -> list[dict[str, float]]:
        """One row per group of visits: "visits" from, "steps", and shares of "wrong" frames, false payments
        ("false_payment") and ends that are not there ("false_end")."""
        rows = []
        for least, most in zip(GROUPS, (*GROUPS[1:], np.inf), strict=True):
            group = (self.visits >= least) & (self.visits < most)
            if group.any():
                shares = {
                    "wrong": self.wrong[group].mean(),
                    "false_payment": self.false_payment[group].mean(),
                    "false_end": (self.end_error[group] > 0.5).mean(),
                }
                rows.append({"visits": least, "steps": int(group.sum()), **{k: float(v) for k, v in shares.items()}})
        return rows


def one_step(
    model: WorldModel | Engine,
    episodes: Sequence[Episode],
    visits: Visits,
    denoise_steps: int = 4,
    rows: int = 64,
    progress: Update | None = None,
) -> OneStep:
    """Dream every step of some episodes from the real frames before it.

    Args:
        episodes: at least one; vectors are predicted, as in a dream.
        visits: of the data that the model was trained on.
        denoise_steps: network passes per frame.
        rows: episodes side by side.
        progress: called with (frames, all of them).
    """
    engine, parts = engine_of(model), []
    order = sorted(range(len(episodes)), key=lambda i: len(episodes[i]))
    for start in range(0, len(order), rows):
        parts.append(_steps(engine, [(i, episodes[i]) for i in order[start : start + rows]], denoise_steps))
        if progress is not None:
            progress(sum(len(part[0]) for part in parts), sum(map(len, episodes)))
    place, frames, rewards, ends = (np.concatenate(part) for part in zip(*parts, strict=True))
    chosen = [(episodes[i], t) for i, t in place.tolist()]
    real = np.stack([episode.frames[t + 1] for episode, t in chosen])
    before = np.stack([episode.frames[t] for episode, t in chosen])
    actions = np.stack([episode.actions[t] for episode, t in chosen])
    paid = np.array([episode.rewards[t] for episode, t in chosen], np.float64)
    ended = np.array([episode.terminated and t == len(episode) - 1 for episode, t in chosen])
    return OneStep(
        visits=visits.of(before, actions),
        off=shares_off(frames, real),
        reward_error=rewards - paid,
        end_error=ends - ended,
        place=place,
        frames=frames,
        scale=float(np.abs(paid).max()) or 1.0,
    )


def _steps(
    engine: Engine, chosen: Sequence[tuple[int, Episode]], denoise_steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(episode, step) (n, 2), frames (n, H, W, C), rewards (n,) and probabilities of the end (n,)."""
    device, lengths = engine.model.device, np.array([len(episode) for _, episode in chosen])
    batch = clip_batch([episode for _, episode in chosen], int(lengths.max()) + 1).to(device)
    numbers, found = np.array([i for i, _ in chosen]), []
    memory, _ = observe_batch(engine, batch, 1)
    noise = [torch.Generator(device).manual_seed(i) for i in numbers.tolist()]
    for t in range(int(lengths.max())):
        action, frame = batch.actions[:, t + 1], batch.frames[:, t + 1 : t + 2]
        step = engine.imagine(memory, action, noise, denoise_steps)
        vectors = None if batch.vectors is None else batch.vectors[:, t + 1 : t + 2]
        memory, _ = engine.observe(memory, frame, action[:, None], vectors)
        there = lengths > t
        place = np.stack([numbers[there], np.full(there.sum(), t)], axis=1)
        dreamt = (part.cpu().numpy()[there] for part in (step.frame, step.reward, step.terminated))
        found.append((place, *dreamt))
    places, frames, rewards, ends = (np.concatenate(part) for part in zip(*found, strict=True))
    return places, frames, rewards, ends
