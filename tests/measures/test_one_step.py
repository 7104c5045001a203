"""The one-step check against a model whose dreams are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lssvwm_rl.data.episode import Episode
from lssvwm_rl.data.visits import Visits
from lssvwm_rl.measures.one_step import WRONG_ABOVE, OneStep, one_step
from lssvwm_rl.model.engine import make_engine
from support.small_models import double_model


def episode(length: int, seed: int) -> Episode:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (length + 1, 16, 16, 3), np.uint8)
    return Episode(frames, rng.integers(0, 4, length), rng.random(length, np.float32), True, False)


def test_every_step_is_dreamt_from_the_real_frames_before_it():
    """Against every episode alone, side by side with no other; in fp64."""
    engine = make_engine(double_model(), "torch")
    episodes = [episode(length, seed) for seed, length in enumerate((5, 3, 7))]
    visits = Visits()
    visits.add_episodes(episodes[:2])
    found = one_step(engine, episodes, visits, denoise_steps=2, rows=2)
    assert sorted(map(tuple, found.place.tolist())) == [(i, t) for i, e in enumerate(episodes) for t in range(len(e))]
    for i, each in enumerate(episodes):
        rows = found.place[:, 0] == i
        order = np.argsort(found.place[rows, 1])
        frames, rewards, ends = _alone(engine, each, i)
        assert np.array_equal(found.frames[rows][order], frames)
        np.testing.assert_allclose(found.reward_error[rows][order], rewards - each.rewards, rtol=1e-9, atol=1e-9)
        ended = np.arange(len(each)) == len(each) - 1
        np.testing.assert_allclose(found.end_error[rows][order], ends - ended, rtol=1e-9, atol=1e-9)
        assert (found.visits[rows] > 0).all() == (i < 2)
        off = np.abs(frames.astype(int) - each.frames[1:].astype(int)).max(-1) > 32
        np.testing.assert_allclose(found.off[rows][order], off.mean((1, 2)))


def _alone(engine, episode, seed):
    memory = engine.model.initial_memory(1)
    frames, actions = torch.from_numpy(episode.frames), torch.from_numpy(episode.actions)
    memory, _ = engine.observe(memory, frames[None, :1], torch.zeros(1, 1, dtype=torch.int64))
    noise, dreamt = [torch.Generator().manual_seed(seed)], []
    for t in range(len(episode)):
        dreamt.append(engine.imagine(memory, actions[None, t], noise, 2))
        memory, _ = engine.observe(memory, frames[None, t + 1 : t + 2], actions[None, t : t + 1])
    return [torch.cat([getattr(step, name) for step in dreamt]).numpy() for name in ("frame", "reward", "terminated")]


def test_the_table_groups_steps_by_visits():
    rng = np.random.default_rng(0)
    visits = np.array([0, 0, 1, 4, 5, 19, 20, 500])
    off = np.where(np.arange(8) % 2 == 0, WRONG_ABOVE * 2, 0.0)
    found = OneStep(
        visits, off, reward_error=np.array([2.0, 0.9, -3, 0, 0, 0, 0, 1.1]), end_error=np.array([0.6] + [-0.9] * 7),
        place=np.zeros((8, 2), int), frames=rng.integers(0, 256, (8, 2, 2, 3), np.uint8), scale=2.0,
    )  # fmt: skip
    rows = {row["visits"]: row for row in found.table()}
    assert [(k, row["steps"], row["wrong"]) for k, row in rows.items()] == [(k, 2, 0.5) for k in (0, 1, 5, 20)]
    assert [row["false_payment"] for row in rows.values()] == [0.5, 0.0, 0.0, 0.5]
    assert [row["false_end"] for row in rows.values()] == [0.5, 0.0, 0.0, 0.0]
    assert [row["visits"] for row in replace(found, visits=visits + 20).table()] == [20]
