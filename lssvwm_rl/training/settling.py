"""Settling: at the end of a training, new heads learn from all of the data, read by the final model, with dropout.

Heads that learn while the model does see what was read lately, hundreds of times: where an outcome cannot be known (the
reward of an end that was chosen blindly) they learn by heart what happened after this or that odd action, and agents in
the dream search until they find it. New heads that never see half of the features must rest on what many features
say.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.heads import ContinuationHead, RewardHead
from lssvwm_rl.model.predict import observe_batch
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.rehearsal import Readings, Rehearsal

FRAMES = 65_536  # that are read, of episodes spread over the store
ROWS = 64  # episodes read side by side
UPDATES = 600
HALF = UPDATES // 2  # after which the step size falls to 0
DROP = 0.5


def settle_heads(
    model: WorldModel, store: EpisodeStore, episodes: Sequence[int], seed: int, held_out: Sequence[int] = ()
) -> None:
    """Replace the reward and the continuation head by new ones that learn from whole episodes; nothing else changes.

    Models without a reservoir stay as they are: their heads have not been rehearsed.

    Args:
        model: changed.
        episodes: to learn from.
        seed: of the first weights and of the draws.
        held_out: where the new heads must not be worse than the old ones; else the old ones stay.
    """
    if not model.config.reservoir.blocks:
        return
    readings = _read(model, store, episodes)
    test = _read(model, store, held_out, FRAMES // 8) if held_out else None
    old = copy.deepcopy(model.reward_head), copy.deepcopy(model.continuation_head)
    _renew(model, seed)
    rehearsal = Rehearsal(model.reward_head, model.continuation_head, updates=1, kept=len(readings.features))
    generator = torch.Generator(model.device).manual_seed(seed)
    rehearsal.keep(readings)
    for k in range(UPDATES):
        rehearsal.update(min(1.0, (UPDATES - k) / HALF), generator, DROP)
    if test is not None and float(_losses(model, *test[:3]).mean()) > float(test.losses.mean()):
        model.reward_head.load_state_dict(old[0].state_dict())
        model.continuation_head.load_state_dict(old[1].state_dict())


def _renew(model: WorldModel, seed: int) -> None:
    """First weights for both heads; where they look (`Focus`) is kept."""
    features, width = model.config.features, model.config.head_width
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reward, continuation = RewardHead(features, width), ContinuationHead(features, width)
    model.reward_head.mlp.load_state_dict(reward.mlp.state_dict())
    model.continuation_head.mlp.load_state_dict(continuation.mlp.state_dict())


@torch.no_grad()
def _read(model: WorldModel, store: EpisodeStore, episodes: Sequence[int], frames: int = FRAMES) -> Readings:
    mean = float(store.lengths[list(episodes)].mean()) + 1
    count = min(len(episodes), max(1, int(frames / mean)))
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


@torch.no_grad()
def _losses(model: WorldModel, features: Tensor, rewards: Tensor, terminated: Tensor) -> Tensor:
    return model.reward_head.loss(features, rewards) + model.continuation_head.loss(features, terminated)
