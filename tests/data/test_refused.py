"""What no model can learn is refused while it is collected, and what random policies draw is not drawn twice."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from gymnasium import spaces

from lssvwm_rl.data import play
from lssvwm_rl.data.collect import collect
from lssvwm_rl.policy import RandomPolicy
from lssvwm_rl.spaces import read_vector
from support.peculiar import LENGTH, peculiar


def collected(folder, episodes=4, num_envs=2, keys=(), policy=None, seed=3, **settings):
    make = policy or (lambda envs, seed: RandomPolicy(envs.single_action_space, seed))
    return collect(partial(peculiar, **settings), make, folder, episodes, num_envs, seed, vector_keys=keys)


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), float("-inf"), 1e39, -1e39])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_rewards_that_are_not_finite_in_float32(tmp_path, reward, num_envs):
    with pytest.raises(ValueError, match=rf"reward at step 3 of episode 0 \(seed 3\) is {reward}".replace("+", r"\+")):
        collected(tmp_path / "s", num_envs=num_envs, rewards={3: reward})


def test_large_rewards_are_kept_as_they_are(tmp_path):
    largest = float(np.finfo(np.float32).max)
    assert collected(tmp_path / "s", rewards={2: 1000.0, 3: -largest})[0].rewards.tolist() == [0, 1000, -largest, 0, 0]


def test_episodes_are_numbered_over_the_whole_store(tmp_path):
    collected(tmp_path / "s", episodes=4)
    with pytest.raises(ValueError, match=r"reward at step 1 of episode 4 \(seed 7\) is nan"):
        collected(tmp_path / "s", episodes=6, rewards={1: float("nan")})


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("step", [0, 2, LENGTH])
def test_vectors_that_are_not_finite(tmp_path, num_envs, step):
    poses = {t: (1, np.inf if t == step else 2) for t in range(LENGTH + 1)}
    with pytest.raises(ValueError, match=rf"vector at step {step} of episode 0 \(seed 3\) is \[1.0, inf\]"):
        collected(tmp_path / "s", num_envs=num_envs, keys=("pose",), poses=poses)
    assert len(collected(tmp_path / "without", poses=poses)) == 4, "what is not recorded is not looked at"


@pytest.mark.parametrize("num_envs", [1, 2, 5])
@pytest.mark.parametrize("missing", [1, LENGTH])
def test_vectors_that_are_missing_at_a_step(tmp_path, num_envs, missing):
    """Gymnasium has zeros for rows whose info lacks a key, as long as that of another row has it."""
    poses = {t: (7, 7) for t in range(LENGTH + 1) if t != missing}
    with pytest.raises(ValueError, match=rf"At step {missing} of episode 0 \(seed 3\): There is no vector 'pose'"):
        collected(tmp_path / "s", num_envs=num_envs, keys=("pose",), poses=poses)


def test_vectors_by_their_mask():
    info = {"pose": np.array([[1, 2], [0, 0], [5, 6]], np.float32), "_pose": np.array([True, False, True])}
    rows = np.array([True, False, True])
    assert read_vector("pose", None, info, 3, rows).tolist() == [[1, 2], [0, 0], [5, 6]]
    for asked in (np.array([False, True, False]), None):
        with pytest.raises(ValueError, match="no vector 'pose'; observation and info have no other"):
            read_vector("pose", None, info, 3, asked)
    lists = {"pose": np.array([[1, 2], None, [5, 6]], object), "_pose": rows}
    assert read_vector("pose", None, lists, 3, rows).tolist() == [[1, 2], [0, 0], [5, 6]]
    assert read_vector("pose", {"pose": np.arange(2)}, {}, 1).tolist() == [[0, 1]], "one row without a first dimension"


def test_a_collection_that_goes_on_draws_on(tmp_path):
    """The episodes differ in their actions only, which a second call must not draw once more."""
    store = collected(tmp_path / "s", episodes=8, actions=spaces.Discrete(1000))
    first = [episode.actions.tobytes() for episode in store]
    store = collected(tmp_path / "s", episodes=16, actions=spaces.Discrete(1000))
    actions = [episode.actions.tobytes() for episode in store]
    assert actions[:8] == first and len(set(actions)) == 16
    again = collected(tmp_path / "other", episodes=8, actions=spaces.Discrete(1000))
    assert [episode.actions.tobytes() for episode in again] == first, "a seed still decides a new store"


def test_policies_by_world_keep_their_seed(tmp_path):
    seeds: list[int] = []

    class ByWorld(RandomPolicy):
        by_world = True

    def make(envs, seed):
        seeds.append(seed)
        return ByWorld(envs.single_action_space, seed)

    for episodes in (2, 4):
        collected(tmp_path / "s", episodes=episodes, policy=make)
    assert seeds == [3, 3]


def test_an_episode_without_end_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(play, "LONG", 7)
    envs = peculiar(2, ends=False)
    with pytest.warns(RuntimeWarning, match="seed 4 has had 7 steps and no end.*--max-episode-steps"):
        for number, _ in enumerate(play.play(envs, RandomPolicy(envs.single_action_space), [iter([4]), iter([5])])):
            if number == 20:
                break


@pytest.mark.filterwarnings("error")
def test_episodes_that_end_in_time_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(play, "LONG", LENGTH)
    collected(tmp_path / "s")
