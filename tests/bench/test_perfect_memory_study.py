"""What the study of perfect memories tells an agent: who walks as told finds objects; all tell of the same one."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

from lssvwm_envs.memory_maze.kinematics import FORWARD, LEFT, RIGHT

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "studies" / "perfect_memory.py"


@pytest.fixture(scope="module")
def study() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(SCRIPT), run_name="perfect_memory"))


def test_who_walks_as_told_finds_objects(study):
    found = []
    for seed in range(4):
        env = study.ToldMaze(study.WAY, 5, 16)
        observation, _ = env.reset(seed=seed)
        total, ended = 0.0, False
        while not ended:
            ahead, right, _ = observation["told"]
            action = FORWARD if ahead > 0.9 else RIGHT if right > 0 else LEFT
            observation, reward, _, ended, _ = env.step(action)
            total += reward
        found.append(total)
    # The oracle finds 15 on average, an agent that cannot tell the way less than 2.
    assert min(found) >= 5 and np.mean(found) > 9, found


def test_all_tell_of_the_same_object(study):
    envs = {tells: study.ToldMaze(tells, 5, 16) for tells in (study.OBJECTS, study.TARGET, study.NOTHING)}
    seen = {tells: [env.reset(seed=7)[0]] for tells, env in envs.items()}
    for action in np.random.default_rng(0).integers(6, size=60):
        for tells, env in envs.items():
            seen[tells].append(env.step(action)[0])
    for all_of_them, one, none in zip(*seen.values(), strict=True):
        *places, a, b, c = all_of_them["told"]
        np.testing.assert_array_equal(np.reshape(places, (3, 2))[int(np.argmax([a, b, c]))], one["told"])
        assert sorted((a, b, c)) == [0, 0, 1] and list(none) == ["image"]
    assert all(env.observation_space.contains(seen[tells][-1]) for tells, env in envs.items())


def test_a_short_training_is_played_and_written_down(study, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    study.main(study.Args(tmp_path / "out", "target", image_size=20, steps=4096, test_episodes=2))
    assert "told target, seed 0: return" in capsys.readouterr().out
    assert (tmp_path / "out" / "told.json").is_file()
