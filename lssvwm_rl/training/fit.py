"""What the parts that are never trained take from the data before a training: the principal components
of patches, and a reservoir the moments of what it reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.components import principal_components
from lssvwm_rl.model.world_model import WorldModel

FRAMES = 4096  # that are looked at, of episodes spread over the store
EPISODE = 512  # frames of one episode
PLACES = 1024  # in which patches are looked at: every episode of some worlds has looks of its own


def fit_fixed(model: WorldModel, store: EpisodeStore, episodes: Sequence[int]) -> None:
    """Fit a model's reservoir and fast weights, if it has them, to episodes of a store."""
    reservoir, fast_weights = model.recollection.reservoir, model.recollection.fast_weights
    if reservoir is None and fast_weights is None:
        return
    components = principal_components(_patches(model, store, episodes))
    if fast_weights is not None:
        fast_weights.fit(components)
    if reservoir is None:
        return
    reservoir.fit(components)
    mean = float(store.lengths[list(episodes)].clip(max=EPISODE).mean()) + 1
    count = min(len(episodes), max(1, int(FRAMES / mean)))
    numbers = [episodes[i * len(episodes) // count] for i in range(count)]
    chosen = [store.read(i, 0, min(EPISODE, int(store.lengths[i]))) for i in numbers]
    batch = clip_batch(chosen, max(len(e) for e in chosen) + 1).to(model.device)
    reservoir.fit_reads(model.patches.from_frames(batch.frames, model.dtype), batch.mask)


def _patches(model: WorldModel, store: EpisodeStore, episodes: Sequence[int]) -> Tensor:
    """(M, pixels), of a few frames in a row at places spread over episodes spread over the store."""
    count = FRAMES // PLACES
    frames = []
    for k in range(PLACES):
        i = episodes[k * len(episodes) // PLACES]
        spare = max(0, int(store.lengths[i]) + 1 - count)
        start = k * 7919 % (spare + 1)  # a prime, so that the places of one episode differ
        frames.append(store.read(i, start, min(start + count, int(store.lengths[i]) + 1)).frames)
    taken = torch.from_numpy(np.concatenate(frames)).to(model.device)
    return model.patches.from_frames(taken, model.dtype).flatten(0, 2)
