"""What a reservoir takes from the data before a training: correlations of colours, and moments of what it reads."""

from __future__ import annotations

from collections.abc import Sequence

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.world_model import WorldModel

FRAMES = 4096  # that are looked at, of episodes spread over the store
EPISODE = 512  # frames of one episode


def fit_reservoir(model: WorldModel, store: EpisodeStore, episodes: Sequence[int]) -> None:
    """Fit a model's reservoir to episodes of a store; nothing for models without one."""
    if not (model.config.reservoir.blocks or model.config.fast_weights.size):
        return
    mean = float(store.lengths[list(episodes)].clip(max=EPISODE).mean()) + 1
    count = min(len(episodes), max(1, int(FRAMES / mean)))
    numbers = [episodes[i * len(episodes) // count] for i in range(count)]
    chosen = [store.read(i, 0, min(EPISODE, int(store.lengths[i]))) for i in numbers]
    batch = clip_batch(chosen, max(len(e) for e in chosen) + 1).to(model.device)
    patches = model.patches.from_frames(batch.frames, model.dtype)
    if model.config.fast_weights.size:
        model.fast_weights.fit(patches[batch.mask].flatten(0, 2))
    if model.config.reservoir.blocks:
        model.reservoir.fit(batch.frames[batch.mask].flatten(0, 2).to(model.dtype) / 127.5 - 1)
        model.reservoir.fit_reads(patches, batch.mask)
