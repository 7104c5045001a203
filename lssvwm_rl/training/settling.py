"""Settling: at the end of a training, the heads learn once more from all of the data, read by the final model.

Rehearsals keep what was read lately, and where an outcome cannot be known (the reward of an end that was chosen
blindly) a few hundred recent episodes hold too few of a kind: heads take their chance outcomes for knowledge, and
agents in the dream believe them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.predict import observe_batch
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.rehearsal import Readings, Rehearsal

FRAMES = 65_536  # that are read, of episodes spread over the store
ROWS = 64  # episodes read side by side
UPDATES = 200
HALF = UPDATES // 2  # after which the step size falls to 0


def settle_heads(model: WorldModel, store: EpisodeStore, episodes: Sequence[int], seed: int) -> None:
    """Update the reward and the continuation head, and nothing else, on what they read of whole episodes.

    Models without a reservoir stay as they are: their heads have not been rehearsed.

    Args:
        model: changed; its backbone stays as it is.
        episodes: to learn from.
        seed: of the draws.
    """
    if not model.config.reservoir.blocks:
        return
    readings = _read(model, store, episodes)
    rehearsal = Rehearsal(model.reward_head, model.continuation_head, updates=1, kept=len(readings.features))
    generator = torch.Generator(model.device).manual_seed(seed)
    rehearsal.keep(readings)
    for k in range(UPDATES):
        rehearsal.update(min(1.0, (UPDATES - k) / HALF), generator)


@torch.no_grad()
def _read(model: WorldModel, store: EpisodeStore, episodes: Sequence[int]) -> Readings:
    mean = float(store.lengths[list(episodes)].mean()) + 1
    count = min(len(episodes), max(1, int(FRAMES / mean)))
    numbers = sorted((episodes[i * len(episodes) // count] for i in range(count)), key=lambda i: int(store.lengths[i]))
    parts = []
    for start in range(0, count, ROWS):
        chosen = [store[i] for i in numbers[start : start + ROWS]]
        batch = clip_batch(chosen, max(len(e) for e in chosen) + 1).to(model.device)
        _, prediction = observe_batch(model, batch)
        there = batch.mask & ~batch.first  # nothing is received on arriving at an episode's first frame
        features, rewards, terminated = prediction.features[there], batch.rewards[there], batch.terminated[there]
        parts.append(Readings(features, rewards, terminated, _losses(model, features, rewards, terminated)))
    return Readings(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _losses(model: WorldModel, features: Tensor, rewards: Tensor, terminated: Tensor) -> Tensor:
    return model.reward_head.loss(features, rewards) + model.continuation_head.loss(features, terminated)
