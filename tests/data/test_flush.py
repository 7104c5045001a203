"""What was finished is on the disk soon, however the process ends."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from lssvwm_rl.data import store
from lssvwm_rl.data.episode import Episode, StoreHeader
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter

HEADER = StoreHeader((2, 2, 1), {"type": "Discrete", "n": 3, "start": 0})
COLLECT = """
import sys
import gymnasium as gym
import numpy as np
from lssvwm_rl.data import store

class Slow(gym.Env):
    observation_space = gym.spaces.Box(0, 255, (2, 2, 1), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.length = 0, 2 if seed < 3 else 10**6  # an episode that does not end while it is looked at
        return np.zeros((2, 2, 1), np.uint8), {}

    def step(self, action):
        self.steps += 1
        return np.zeros((2, 2, 1), np.uint8), 1.0, self.steps == self.length, False, {}

store.SHARD_SECONDS = 0.3
gym.register("Slow-v0", Slow)
from lssvwm_rl.cli import main
main(["collect", "Slow-v0", "--out", sys.argv[1], "--episodes", "9", "--num-envs", "1", "--policy", "random"])
"""


def episode(seed: int) -> Episode:
    frames = np.full((2, 2, 2, 1), seed, np.uint8)
    return Episode(frames, np.zeros(1, np.int64), np.zeros(1, np.float32), True, False, seed=seed)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when they are told to."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_an_episode_waits_for_its_shard_no_longer_than_a_minute(tmp_path, clock):
    with EpisodeWriter(tmp_path, HEADER) as writer:

        def stored() -> list[int]:
            writer.flush_if_due()
            return EpisodeStore(tmp_path).seeds.tolist()

        clock[0] += 1000  # in which nothing is there to be written
        writer.add(episode(1))
        clock[0] += store.SHARD_SECONDS - 1
        writer.add(episode(2))
        assert stored() == []
        clock[0] += 1
        assert stored() == [1, 2]
        clock[0] += store.SHARD_SECONDS
        assert stored() == [1, 2] and len(list(tmp_path.glob("shard-*"))) == 1
        writer.add(episode(3))
        clock[0] += store.SHARD_SECONDS + 1
        writer.add(episode(4))
        assert EpisodeStore(tmp_path).seeds.tolist() == [1, 2, 3, 4]


def test_a_shard_ends_with_its_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHARD_BYTES", 3 * episode(0).frames.nbytes)
    writer = EpisodeWriter(tmp_path, HEADER)
    for seed in range(5):
        writer.add(episode(seed))
    assert EpisodeStore(tmp_path).seeds.tolist() == [0, 1, 2]
    writer.close()


def test_a_killed_collection_keeps_what_was_finished_before(tmp_path):
    """With kill -9, and while an environment is in an episode that does not end."""
    process = subprocess.Popen([sys.executable, "-c", COLLECT, str(tmp_path / "s")], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            there = (tmp_path / "s" / "header.json").exists()
            if process.poll() is not None or (there and len(EpisodeStore(tmp_path / "s")) == 3):
                break
            time.sleep(0.1)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    found = EpisodeStore(tmp_path / "s")
    assert found.seeds.tolist() == [0, 1, 2] and all(e.terminated and len(e) == 2 for e in found)
