"""Settling: at the end of a training, new heads learn from all of the data, as the final model reads it and dreams it.

Heads that learn while the model does see what was read lately, hundreds of times: where an outcome cannot be known (the
reward of an end that was chosen blindly) they learn by heart what happened after this or that odd action, and agents in
the dream search until they find it. New heads that never see half of the features must rest on what many features
say. And they have only seen real frames: after dreamt ones, which look the same, they may say something else. So they
learn from dreams of the episodes, too, as long as those show what really came.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.likeness import shares_off
from lssvwm_rl.data.store import Episode, EpisodeStore
from lssvwm_rl.model.engine import Engine, make_engine
from lssvwm_rl.model.heads import ContinuationHead, RewardHead
from lssvwm_rl.model.predict import observe_batch, observe_episodes
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.rehearsal import Readings, Rehearsal

FRAMES = 32_768  # that are read, of episodes spread over the store
ROWS = 128  # episodes read side by side
UPDATES = 800
HALF = UPDATES // 2  # after which the step size falls to 0
DROP = 0.5
WRONG_ABOVE = 0.02  # share of a dreamt frame's pixels that are off


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
    engine = make_engine(model)
    readings = _read(engine, store, episodes, FRAMES, seed)
    test = _read(engine, store, held_out, FRAMES // 8, seed + 1) if held_out else None
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
    torch.nn.init.zeros_(model.reward_head.ended)
    model.continuation_head.mlp.load_state_dict(continuation.mlp.state_dict())


def _read(engine: Engine, store: EpisodeStore, episodes: Sequence[int], frames: int, seed: int) -> Readings:
    """Of episodes spread over the store, with about so many frames, read and dreamt."""
    mean = float(store.lengths[list(episodes)].mean()) + 1
    count = min(len(episodes), max(1, int(frames / mean)))
    numbers = sorted((episodes[i * len(episodes) // count] for i in range(count)), key=lambda i: int(store.lengths[i]))
    parts, rng = [], np.random.default_rng(seed)
    for start in range(0, count, ROWS):
        chosen = [store[i] for i in numbers[start : start + ROWS]]
        parts += [_seen(engine.model, chosen), *_dreamt(engine, chosen, rng)]
    return Readings(*(torch.cat(part) for part in zip(*parts, strict=True)))


@torch.no_grad()
def _seen(model: WorldModel, episodes: Sequence[Episode]) -> Readings:
    """What is read of real frames."""
    batch = clip_batch(episodes, max(len(e) for e in episodes) + 1).to(model.device)
    _, prediction = observe_batch(model, batch)
    there = batch.mask & ~batch.first  # nothing is received on arriving at an episode's first frame
    return _readings(model, prediction.features[there], batch.rewards[there], batch.terminated[there])


@torch.no_grad()
def _dreamt(engine: Engine, episodes: Sequence[Episode], rng: np.random.Generator) -> Iterator[Readings]:
    """What is read of dreams that follow episodes from a random moment on, as long as their frames are right."""
    model, device = engine.model, engine.model.device
    lengths = np.array([len(e) for e in episodes])
    first = rng.integers(1, lengths + 1)
    memory = observe_episodes(engine, [e.cut(0, t) for e, t in zip(episodes, first.tolist(), strict=True)])
    noise = [torch.Generator(device).manual_seed(int(s)) for s in rng.integers(2**62, size=len(episodes))]
    right = np.ones(len(episodes), bool)
    for ahead in range(int((lengths - first).max()) + 1):
        right &= first + ahead <= lengths
        if not right.any():
            return
        steps = np.minimum(first + ahead, lengths) - 1
        pairs = list(zip(episodes, steps.tolist(), strict=True))
        step = engine.imagine(memory, torch.from_numpy(np.stack([e.actions[t] for e, t in pairs])).to(device), noise)
        memory, real = step.memory, np.stack([e.frames[t + 1] for e, t in pairs])
        right &= shares_off(step.frame.cpu().numpy(), real) <= WRONG_ABOVE
        rows = torch.from_numpy(np.flatnonzero(right)).to(device)
        rewards = torch.tensor([float(e.rewards[t]) for e, t in pairs], device=device)
        ended = torch.tensor([e.terminated and t == len(e) - 1 for e, t in pairs], device=device)
        yield _readings(model, memory.features[rows], rewards[rows], ended[rows])


def _readings(model: WorldModel, features: Tensor, rewards: Tensor, terminated: Tensor) -> Readings:
    losses = _losses(model, features, rewards, terminated)
    fine = losses.isfinite()  # of batches that were not, the training has learnt nothing either
    return Readings(features[fine], rewards[fine], terminated[fine], losses[fine])


@torch.no_grad()
def _losses(model: WorldModel, features: Tensor, rewards: Tensor, terminated: Tensor) -> Tensor:
    reward = model.reward_head.loss(features, rewards, terminated)
    return reward + model.continuation_head.loss(features, terminated)
