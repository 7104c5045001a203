"""Worker processes after a dream in their parent: `python -m support.workers envs|loader METHOD`, or `actors ray`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lssvwm_rl.data.clips import ClipSampler
from lssvwm_rl.model.checkpoints import load_contexts

CHECKPOINT = "minigrid-memory"
STEPS = range(3, 7)


def dream(**settings: Any) -> gym.Env:
    import lssvwm_rl  # which registers it where a worker begins anew

    assert lssvwm_rl.__version__
    return gym.make("lssvwm/Dream-v0", checkpoint=CHECKPOINT, denoise_steps=1, **settings)


def remembering() -> gym.Env:
    """A real environment beside which the world model reads."""
    from lssvwm_envs.make import make_image_env
    from lssvwm_envs.wrappers import MemoryObservation

    return MemoryObservation(make_image_env("MiniGrid-MemoryS7-v0"), CHECKPOINT)


MAKERS: tuple[Callable[[], gym.Env], ...] = partial(dream, observation="both"), remembering


class Clips(Dataset):
    """Clips of a store, each with a frame that was dreamt where it was drawn."""

    def __init__(self, sampler: ClipSampler) -> None:
        self.sampler = sampler

    def __getitem__(self, step: int) -> tuple[Tensor, Any]:
        env = dream()
        env.reset(seed=step)
        return self.sampler.batch(step).frames, env.step(1)[0]


def check_envs(method: str) -> None:
    """Two workers with dreams, and two with real environments, give what one in this process does."""
    for make in MAKERS:
        wanted = make().reset(seed=0)[0]
        envs = AsyncVectorEnv([make] * 2, context=method)
        try:
            found = envs.reset(seed=0)[0]
            for _ in range(3):
                stepped = envs.step(np.array([1, 2]))[0]
            assert stepped in envs.observation_space
        finally:
            envs.close()
        _check_close(wanted, {k: v[0] for k, v in found.items()} if isinstance(found, dict) else found[0])


def check_loader(method: str) -> None:
    """Two workers give the clips of this process, and can dream."""
    sampler = ClipSampler(load_contexts(CHECKPOINT), 8, 4, seed=3)
    expected = {step: sampler.batch(step).frames for step in STEPS}
    loader = DataLoader(Clips(sampler), sampler=STEPS, batch_size=None, num_workers=2, multiprocessing_context=method)
    for step, (frames, dreamt) in zip(STEPS, loader, strict=True):
        assert frames.equal(expected[step]) and dreamt.shape == (56, 56, 3)


class Player:
    """An actor that plays in an environment of its own, and trains nothing."""

    def play(self, make: Callable[[], gym.Env]) -> Any:
        env = make()
        first = env.reset(seed=0)[0]
        for action in (1, 2, 0):
            assert env.step(action)[0] in env.observation_space
        return first


def check_actors(method: str) -> None:
    """Two actors with dreams, and two with real environments, give what one in this process does."""
    import ray

    assert method == "ray"
    ray.init("local", num_cpus=2, include_dashboard=False, logging_level=logging.WARNING)
    try:
        actors = [ray.remote(num_cpus=1)(Player).remote() for _ in range(2)]
        for make in MAKERS:
            wanted = make().reset(seed=0)[0]
            for found in ray.get([actor.play.remote(make) for actor in actors], timeout=200):
                _check_close(wanted, found)
    finally:
        ray.shutdown()


def _check_close(ours: Any, theirs: Any) -> None:
    """Sums of one thread are rounded otherwise than those of several."""
    for mine, other in zip(_parts(ours), _parts(theirs), strict=True):
        np.testing.assert_allclose(other.astype(float), mine.astype(float), atol=1e-3)


def _parts(observation: Any) -> list[np.ndarray]:
    return list(observation.values()) if isinstance(observation, dict) else [observation]


if __name__ == "__main__":
    if torch.get_num_threads() < 2:  # the default of a machine with one core
        torch.set_num_threads(2)
    torch.ones(4_000_000).exp().sum(), torch.ones(500, 500) @ torch.ones(500, 500)  # all threads are there now
    env = dream()
    env.reset(seed=0)
    env.step(1)
    {"envs": check_envs, "loader": check_loader, "actors": check_actors}[sys.argv[1]](sys.argv[2])
    print("done")
