"""Clips in proportion to length, and from the workers of data loaders."""

from __future__ import annotations

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from lssvwm_rl.data import clips
from lssvwm_rl.data.clips import Batch, ClipSampler
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter
from support.small_stores import PLAIN, ones


@pytest.fixture
def store(tmp_path):
    with EpisodeWriter(tmp_path / "s", PLAIN, shard_episodes=3) as writer:
        for length in (1, 2, 4, 8, 16, 32, 64, 129):
            episode = ones(length, length)
            episode.frames[:] = np.arange(length + 1)[:, None, None, None]
            episode.rewards[:] = length
            writer.add(episode)
    return EpisodeStore(tmp_path / "s")


def lengths(sampler: ClipSampler, steps: int) -> np.ndarray:
    """Of the episodes of all clips, by their rewards."""
    return np.concatenate([sampler.batch(step).rewards[:, 1].numpy() for step in range(steps)])


@pytest.mark.parametrize("newest", [0.0, 0.5])
def test_by_length_all_frames_are_drawn_as_often(store, newest):
    episodes = [0, 2, 3, 4, 5, 7]  # the last quarter of them is the last one
    of_drawn = store.lengths[episodes]
    for by_length, weights in ((False, np.ones(6)), (True, of_drawn + 1.0)):
        sampler = ClipSampler(store, 2, 64, 0, episodes, newest=newest, by_length=by_length)
        drawn, shares = lengths(sampler, 64), weights / weights.sum() * (1 - newest)
        shares[-1] += newest
        for length, share in zip(of_drawn, shares, strict=True):
            # Four standard errors of a share; the draws are the same on every machine.
            assert abs((drawn == length).mean() - share) <= 4 * (share * (1 - share) / len(drawn)) ** 0.5


class Steps(Dataset):
    """The batches of a sampler, as a user would hand them to a data loader."""

    def __init__(self, sampler: ClipSampler) -> None:
        self.sampler = sampler

    def __getitem__(self, step: int) -> Batch:
        return self.sampler.batch(step)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_give_the_batches_of_this_process_from_any_step_on(store, method, monkeypatch):
    in_memory = ClipSampler(store, 16, 4, seed=3, history=8, by_length=True)
    monkeypatch.setattr(clips, "CACHE_BYTES", 0)
    from_files = ClipSampler(store, 16, 4, seed=3, history=8, by_length=True)
    for sampler in (in_memory, from_files) if method == "fork" else (in_memory,):
        expected = {step: sampler.batch(step) for step in range(5, 11)}  # also opens files before the fork
        loader = DataLoader(
            Steps(sampler),
            sampler=range(5, 11),
            batch_size=None,
            num_workers=2 if method == "fork" else 1,
            multiprocessing_context=method,
        )
        for step, batch in zip(range(5, 11), loader, strict=True):
            for name in ("frames", "actions", "rewards", "terminated", "mask", "first", "vectors"):
                assert getattr(batch, name).equal(getattr(expected[step], name)), (step, name)
            assert (batch.before is None) == (expected[step].before is None)
            assert batch.before is None or batch.before.frames.equal(expected[step].before.frames)
