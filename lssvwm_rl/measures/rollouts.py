"""PSNR of dreams against reality, and of copying the last real frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lssvwm_rl.data.store import Episode
from lssvwm_rl.measures.psnr import psnr
from lssvwm_rl.model.predict import dream
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.progress import Update


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


def _against(dreams: list[np.ndarray], copies: list[np.ndarray], real: list[np.ndarray]) -> dict[str, float]:
    truth = np.stack(real)
    return {
        "dream": psnr(np.stack(dreams), truth),
        "copy_last_frame": psnr(np.stack(copies), truth),
        "episodes": len(real),
    }
