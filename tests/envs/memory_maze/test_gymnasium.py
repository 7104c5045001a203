"""MemoryMaze keeps Gymnasium's contract, works in its wrappers, and says what is wrong with bad input."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import (
    AddRenderObservation,
    FrameStackObservation,
    RecordEpisodeStatistics,
    RecordVideo,
    TimeLimit,
)
from gymnasium.wrappers.vector import RecordEpisodeStatistics as VectorRecordEpisodeStatistics

from lssvwm_envs.memory_maze.env import MemoryMazeEnv
from lssvwm_envs.memory_maze.kinematics import TURN
from lssvwm_envs.memory_maze.vector import MemoryMazeVectorEnv

SIZES = (5, 7, 9, 11, 13, 15)
IDS = [f"lssvwm/MemoryMaze-{size}x{size}{variant}-v0" for size in SIZES for variant in ("", "-ExtraObs")]


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_checker_finds_nothing(env_id):
    env = gym.make(env_id).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)


@pytest.mark.parametrize(
    ("size", "steps", "objects"),
    [(5, 250, 3), (7, 500, 3), (9, 1000, 3), (11, 2000, 4), (13, 3000, 5), (15, 4000, 6)],
)
def test_episodes_are_as_long_as_published_and_have_as_many_objects(size, steps, objects):
    env = gym.make(f"lssvwm/MemoryMaze-{size}x{size}-v0", image_size=16)
    assert gym.make(f"lssvwm/MemoryMaze-{size}x{size}-v0").observation_space == gym.spaces.Box(
        0, 255, (64, 64, 3), np.uint8
    )
    _, info = env.reset(seed=0)
    assert info["targets_pos"].shape == (objects, 2) and info["maze_layout"].shape == (size, size)
    for step in range(1, steps + 1):
        _, _, terminated, truncated, _ = env.step(1)
        assert not terminated and truncated == (step == steps)


def test_extra_observations_and_info_tell_the_truth():
    env = gym.make("lssvwm/MemoryMaze-7x7-ExtraObs-v0")
    plain = gym.make("lssvwm/MemoryMaze-7x7-v0")
    maze = env.unwrapped.mazes
    frame, plain_info = plain.reset(seed=2)
    observation, info = env.reset(seed=2)
    for action in (1, 1, 4, 3, 1, 2, 5, 1):
        assert observation.keys() == env.observation_space.keys() and observation in env.observation_space
        assert np.array_equal(observation["image"], frame)
        assert info.keys() == plain_info.keys() and all(np.array_equal(info[k], plain_info[k]) for k in info)
        assert all(np.array_equal(observation[k], info[k]) for k in observation if k != "image")
        assert np.allclose(info["agent_pos"], [maze.x[0], maze.y[0]])
        angle = maze.heading[0] * TURN
        assert np.allclose(info["agent_dir"], [np.cos(angle), np.sin(angle)], atol=1e-6)
        assert np.allclose(info["pose"], [*info["agent_pos"] / 7, *info["agent_dir"]], atol=1e-6)
        x, y = info["agent_pos"].astype(int)
        assert info["maze_layout"][y, x] == 1, "rows of the layout are y"
        assert isinstance(info["target"], int) and 0 <= info["target"] < 3
        frame, _, _, _, plain_info = plain.step(action)
        observation, _, _, _, info = env.step(action)


def play(env: gym.Env, steps: int) -> dict[str, Any]:
    """`info` after so many steps, of which the last one ends the episode."""
    env.reset(seed=0)
    for step in range(steps):
        _, _, terminated, truncated, info = env.step(env.action_space.sample())
        assert not terminated and truncated == (step == steps - 1)
    return info


def test_wrappers_of_single_environments():
    env_id = "lssvwm/MemoryMaze-5x5-v0"
    info = play(RecordEpisodeStatistics(gym.make(env_id, max_steps=20)), 20)
    assert info["episode"]["l"] == 20 and info["episode"]["r"] >= 0
    play(TimeLimit(gym.make(env_id), 7), 7)
    play(gym.make(env_id, max_episode_steps=7), 7)
    stacked = FrameStackObservation(gym.make(env_id), 4)
    frames = [stacked.reset(seed=0)[0]] + [stacked.step(1)[0] for _ in range(4)]
    assert frames[-1].shape == (4, 64, 64, 3) and frames[-1] in stacked.observation_space
    assert np.array_equal(frames[-1][:-1], frames[-2][1:])
    for extra_obs in (False, True):
        rendered = AddRenderObservation(gym.make(env_id, extra_obs=extra_obs, render_mode="rgb_array"))
        assert rendered.reset(seed=0)[0] in rendered.observation_space


def test_pictures_for_people():
    env = MemoryMazeEnv(7, render_mode="rgb_array")
    frame, _ = env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (256, 512, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture[::4, :256:4], frame), "the view is shown enlarged beside the map"
    before = picture[:, 256:]
    env.step(3)
    assert (env.render()[:, 256:] != before).any(), "the map shows where the agent looks"
    envs = MemoryMazeVectorEnv(2, 7, render_mode="rgb_array")
    envs.reset(seed=0)
    pictures = envs.render()
    assert len(pictures) == 2 and np.array_equal(pictures[0], picture)
    assert MemoryMazeVectorEnv(2).render() is None
    with pytest.warns(UserWarning, match="without a render mode"):
        assert MemoryMazeEnv().render() is None


def test_videos_are_recorded(tmp_path):
    env = gym.make("lssvwm/MemoryMaze-5x5-v0", max_steps=9, render_mode="rgb_array")
    recorded = RecordVideo(env, str(tmp_path / "videos"), lambda episode: True)
    play(recorded, 9)
    recorded.close()
    assert [path.suffix for path in (tmp_path / "videos").iterdir()] == [".mp4"]


def test_episode_statistics_of_the_vector_form():
    """With autoreset in the next step; Gymnasium's wrapper miscounts all others, its own environments' too."""
    envs = gym.make_vec("lssvwm/MemoryMaze-5x5-v0", 3, max_steps=10, image_size=16)
    recorded = VectorRecordEpisodeStatistics(envs)
    recorded.reset(seed=0)
    lengths, returns, played = [], [], np.zeros(3)
    for _ in range(33):
        _, rewards, _, truncated, info = recorded.step(recorded.action_space.sample())
        played += rewards
        if truncated.any():
            assert info["_episode"].all()
            lengths += info["episode"]["l"].tolist()
            returns.append((info["episode"]["r"], played))
            played = np.zeros(3)
    assert lengths == [10] * 9
    assert all(np.allclose(a, b) for a, b in returns)


BAD_SETTINGS = [
    ({"size": 8}, "size 8 cannot be built"),
    ({"size": 3}, "size 3 cannot be built"),
    ({"size": -9}, "size -9 "),
    ({"size": 9.0}, "size 9.0 "),
    ({"size": "9"}, "size '9' "),
    ({"size": True}, "size True "),
    ({"image_size": 65}, "65 pixels"),
    ({"image_size": 14}, "14 pixels"),
    ({"image_size": 0}, "0 pixels"),
    ({"image_size": 64.0}, "64.0 pixels"),
    ({"objects": 7}, "2 to 6 objects, one per colour, not 7"),
    ({"objects": 1}, "not 1"),
    ({"objects": 2.5}, "not 2.5"),
    ({"max_steps": 0}, "max_steps .* got 0"),
    ({"max_steps": 1.5}, "got 1.5"),
    ({"render_mode": "human"}, "no render mode 'human'"),
]


@pytest.mark.parametrize(("settings", "sentence"), BAD_SETTINGS)
def test_settings_that_do_not_fit_are_named(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        MemoryMazeEnv(**settings)
    with pytest.raises(ValueError, match=sentence):
        MemoryMazeVectorEnv(2, **settings)


@pytest.mark.parametrize("size", [np.int64(7), np.uint8(7)])
def test_numpys_whole_numbers_are_sizes(size):
    env = MemoryMazeEnv(size, image_size=np.int32(16), max_steps=np.int16(300), objects=np.int8(4))
    assert env.reset(seed=0)[1]["maze_layout"].shape == (7, 7)


def test_a_number_of_environments_is_at_least_one():
    with pytest.raises(ValueError, match="not 0"):
        MemoryMazeVectorEnv(0)


def test_a_single_environment_stays_usable_after_errors():
    env, other = (MemoryMazeEnv(5, image_size=16, max_steps=3) for _ in range(2))
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(0)
    for each in (env, other):
        each.reset(seed=0)
    for action in (6, -1, 10**30, 1.0, None, "1", np.array([1]), np.array([1, 2])):
        with pytest.raises(ValueError, match="does not exist"):
            env.step(action)
    with pytest.raises(ValueError, match=r"action 17 does not exist; use a whole number from 0 to 5"):
        env.step(17)
    with pytest.raises(gym.error.Error, match="-5"):
        env.reset(seed=-5)
    for action in (1, np.int64(2), np.array(4)):
        assert np.array_equal(env.step(action)[0], other.step(int(action))[0]), "an error changes nothing"
    with pytest.raises(ResetNeeded, match="has ended"):
        env.step(0)
    assert np.array_equal(env.reset()[0], other.reset()[0])
    env.step(0)


def test_a_vector_environment_stays_usable_after_errors():
    settings: dict[str, Any] = {
        "size": 5, "image_size": 16, "max_steps": 3, "autoreset_mode": AutoresetMode.DISABLED
    }  # fmt: skip
    envs, others = (MemoryMazeVectorEnv(2, **settings) for _ in range(2))
    with pytest.raises(ResetNeeded, match="not begun"):
        envs.step(np.zeros(2, int))
    for each in (envs, others):
        each.reset(seed=0)
    bad_actions = ([0, 6], [-1, 0], [0.0, 1.0], [0], [[0, 1]], 3, [None, 0])
    for actions in bad_actions:
        with pytest.raises(ValueError, match="Actions must be 2 whole numbers from 0 to 5, got"):
            envs.step(np.array(actions))
    for mask in ([True], [0, 1], [False, False], np.ones((2, 1), bool), "ab", None):
        with pytest.raises(ValueError, match="reset_mask must be 2 booleans"):
            envs.reset(options={"reset_mask": mask})
    for seeds in ([1], [1, 2, 3], ()):
        with pytest.raises(ValueError, match=f"{len(seeds)} seeds for 2 environments"):
            envs.reset(seed=seeds)
    with pytest.raises(gym.error.Error, match="-1"):
        envs.reset(seed=-1)
    for actions in ([1, 1], np.array([2, 4], np.int32), np.array([1, 5], np.uint8)):
        assert np.array_equal(envs.step(actions)[0], others.step(np.array(actions))[0]), "an error changes nothing"
    with pytest.raises(ResetNeeded, match=r"rows \[0, 1\] have ended; reset them with options"):
        envs.step(np.zeros(2, int))
    half = {"reset_mask": np.array([True, False])}
    for each in (envs, others):
        each.reset(options=half)
    with pytest.raises(ResetNeeded, match=r"rows \[1\] have ended"):
        envs.step(np.zeros(2, int))
    with pytest.raises(ValueError, match="Sometimes"):
        MemoryMazeVectorEnv(1, autoreset_mode="Sometimes")
