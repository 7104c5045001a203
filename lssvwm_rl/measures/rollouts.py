"""PSNR of dreams against reality, and of copying the last real frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lssvwm_rl.data.store import Episode, EpisodeStore
from lssvwm_rl.measures.psnr import decibels, psnr, squared_error
from lssvwm_rl.model.engine import Engine
from lssvwm_rl.model.predict import dream, predict_frames
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.progress import Update

CONTEXT = 8  # frames observed before a free-running dream, at most
EPISODES = 16  # dreamt side by side
STEPS = 32  # dreamt while a model learns


def one_step_psnr(
    model: WorldModel, episodes: Sequence[Episode], denoise_steps: int = 4, progress: Update | None = None
) -> dict[str, float]:
    """PSNR of the frame that follows the first half of each episode, dreamt and copied from the frame before.

    `progress` is called with (episodes, all of them).

    Returns:
        {"dream", "copy_last_frame"} in dB, and "episodes".
    """
    dreams, copies, real = [], [], []
    for seed, episode in enumerate(episodes):
        half = len(episode) // 2 + 1
        dreams.append(dream(model, episode, half, 1, seed, denoise_steps)[0])
        copies.append(episode.frames[half - 1])
        real.append(episode.frames[half])
        if progress is not None:
            progress(len(real), len(episodes))
    return _against(dreams, copies, real)


def rollout_psnr(
    model: WorldModel,
    episodes: Sequence[Episode],
    horizon: int,
    context_length: int,
    denoise_steps: int = 4,
    progress: Update | None = None,
) -> dict[str, float]:
    """PSNR of the frame `horizon` steps after a context, dreamt with the real actions, and copied from the context.

    Episodes that are too short are left out. `progress` is called with (episodes, all of them).

    Returns:
        {"dream", "copy_last_frame"} in dB, and "episodes".

    Raises:
        ValueError: if no episode is long enough.
    """
    long = [e for e in episodes if len(e.frames) >= context_length + horizon]
    if not long:
        raise ValueError(f"No episode has {context_length} + {horizon} frames; collect longer ones or dream less.")
    dreams, copies, real = [], [], []
    for seed, episode in enumerate(long):
        dreams.append(dream(model, episode, context_length, horizon, seed, denoise_steps)[-1])
        copies.append(episode.frames[context_length - 1])
        real.append(episode.frames[context_length + horizon - 1])
        if progress is not None:
            progress(len(real), len(long))
    return _against(dreams, copies, real)


@dataclass(frozen=True)
class FreeRunning:
    """Dreams that follow the first frames of real episodes, led by the real actions: always the same ones, with the
    same noise, so that models can be compared by them, as can one model while it learns."""

    episodes: list[Episode]
    """Each longer than the context."""
    context: int
    """Real frames observed before."""

    @classmethod
    def of(cls, store: EpisodeStore, numbers: Sequence[int], steps: int = STEPS) -> FreeRunning:
        """The longest of some episodes of a store, for at most so many dreamt steps."""
        order = sorted(numbers, key=lambda i: -store.lengths[i])[:EPISODES]
        longest = int(store.lengths[order[0]]) + 1 if order else 0
        context = max(1, min(CONTEXT, longest // 2))
        lengths = [int(min(store.lengths[i] + 1, context + steps)) for i in order]
        pairs = zip(order, lengths, strict=True)
        return cls([store.read(i, 0, length) for i, length in pairs if length > context], context)

    def dream(self, model: WorldModel | Engine) -> np.ndarray:
        """(N, F, H, W, C) uint8, F frames to the end of the longest episode; a model with vectors is given the real
        ones.

        Raises:
            ValueError: if the episodes lack the model's vectors.
        """
        return predict_frames(model, self.episodes, self.context, free_running=True, rows=EPISODES)

    def over_time(self, frames: np.ndarray, least: int = 1) -> list[tuple[int, float, float]]:
        """(steps since the context, PSNR in dB of dreams, of the context's last frame), as long as `least` of the
        episodes go on."""
        rows = []
        for t in range(frames.shape[1]):
            ours, copy = self._errors(frames, t)
            if len(ours) < least:
                break
            rows.append((t + 1, decibels(float(ours.mean())), decibels(float(copy.mean()))))
        return rows

    def figures(self, model: WorldModel | Engine) -> dict[str, float]:
        """For the learning curve: PSNR in dB over all dreamt frames and over the first of each dream, and the same of
        copies of the context's last frame. Empty without episodes.

        Raises:
            ValueError: as `dream`.
        """
        if not self.episodes:
            return {}
        frames = self.dream(model)
        steps, figures = [self._errors(frames, t) for t in range(frames.shape[1])], {}
        for k, of in enumerate(("", "_copy")):
            every = np.concatenate([errors[k] for errors in steps])
            figures[f"dream_psnr{of}"] = decibels(float(every.mean()))
            figures[f"dream_psnr_one_step{of}"] = decibels(float(steps[0][k].mean()))
        return figures

    def _errors(self, frames: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Squared errors of the dreams' frame t and of copies, (n, H, W) float64 of the n episodes that have one."""
        at = self.context + t
        there = [i for i, episode in enumerate(self.episodes) if len(episode.frames) > at]
        real = np.stack([self.episodes[i].frames[at] for i in there])
        copies = np.stack([self.episodes[i].frames[self.context - 1] for i in there])
        return squared_error(frames[there, t], real), squared_error(copies, real)


def _against(dreams: list[np.ndarray], copies: list[np.ndarray], real: list[np.ndarray]) -> dict[str, float]:
    truth = np.stack(real)
    return {
        "dream": psnr(np.stack(dreams), truth),
        "copy_last_frame": psnr(np.stack(copies), truth),
        "episodes": len(real),
    }
