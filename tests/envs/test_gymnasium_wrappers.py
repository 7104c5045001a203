"""Dreams inside of Gymnasium's own wrappers and vector environments, with results that are worked out by hand."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import av
import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import FrameStackObservation, RecordEpisodeStatistics, RecordVideo, TimeLimit
from gymnasium.wrappers import vector as vector_wrappers

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.vector import DreamVectorEnv

NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
FAST: dict[str, Any] = {"denoise_steps": 1}


def make_vec(checkpoint: str, mode: AutoresetMode, num_envs: int = 3, **settings: Any) -> DreamVectorEnv:
    envs = DreamVectorEnv(checkpoint, num_envs, autoreset_mode=mode, **FAST, **settings)
    envs.action_space.seed(0)
    return envs


def running_statistics(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (plus 1e-8) as Gymnasium keeps them: begun with 0 and 1, weighed as 1e-4 observations."""
    weight, seen = len(seen) + 1e-4, seen.astype(np.float64)
    mean = seen.sum(axis=0) / weight
    return mean, ((seen**2).sum(axis=0) + 1e-4) / weight - mean**2 + 1e-8


def video_frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]


def test_episode_statistics(mortal):
    env = RecordEpisodeStatistics(gym.make("lssvwm/Dream-v0", checkpoint=mortal, horizon=9, **FAST))
    env.action_space.seed(0)
    lengths = set()
    for seed in range(5):
        env.reset(seed=seed)
        rewards, ended, info = [], False, {}
        while not ended:
            assert "episode" not in info
            _, reward, terminated, truncated, info = env.step(env.action_space.sample())
            rewards.append(reward)
            ended = terminated or truncated
        assert info["episode"]["l"] == len(rewards)
        assert info["episode"]["r"] == pytest.approx(sum(rewards), abs=1e-6) and info["episode"]["r"] != 0
        lengths.add(len(rewards))
    assert len(lengths) > 2


def test_time_limits_are_not_the_horizon(worlds):
    for env, steps in (
        (TimeLimit(DreamEnv(worlds["box"], **FAST), 3), 3),
        (gym.make("lssvwm/Dream-v0", checkpoint=worlds["box"], max_episode_steps=4, **FAST), 4),
        (gym.make("lssvwm/Dream-v0", checkpoint=worlds["box"], max_episode_steps=4, horizon=2, **FAST), 2),
    ):
        for _ in range(2):
            env.reset(seed=0)
            ends = [env.step(env.action_space.sample())[2:4] for _ in range(steps)]
            assert ends == [(False, False)] * (steps - 1) + [(False, True)]


@pytest.mark.parametrize("observation", ["image", "memory", "both"])
def test_stacked_observations(worlds, observation):
    env, alone = (DreamEnv(worlds["discrete"], observation=observation, **FAST) for _ in range(2))
    stacked = FrameStackObservation(env, 3)
    seen = [alone.reset(seed=0)[0]] * 3  # padded with the first one
    stack, _ = stacked.reset(seed=0)
    for action in (0, 1, 2, 1):
        assert stack in stacked.observation_space
        for key in seen[0] if observation == "both" else [None]:
            parts = [each if key is None else each[key] for each in seen[-3:]]
            assert np.array_equal(stack if key is None else stack[key], np.stack(parts))
        stack, seen = stacked.step(action)[0], [*seen, alone.step(action)[0]]


def test_videos_have_every_frame(worlds, tmp_path):
    made = gym.make(
        "lssvwm/Dream-v0", checkpoint=worlds["grey"], horizon=5, render_mode="rgb_array", render_memory=True, **FAST
    )
    env = RecordVideo(made, str(tmp_path / "videos"), episode_trigger=lambda episode: episode != 1)
    for seed in range(3):
        env.reset(seed=seed)
        while not env.step(env.action_space.sample())[3]:
            pass
    env.close()
    videos = {path.name: video_frames(path) for path in (tmp_path / "videos").iterdir()}
    assert {name: len(frames) for name, frames in videos.items()} == {
        "rl-video-episode-0.mp4": 6, "rl-video-episode-2.mp4": 6
    }  # fmt: skip
    assert all(frame.shape == (16, 32, 3) for frame in videos["rl-video-episode-0.mp4"])
    last = np.abs(videos["rl-video-episode-2.mp4"][-1].astype(int) - made.render())
    first = np.abs(videos["rl-video-episode-0.mp4"][0].astype(int) - made.render())
    assert last.mean() < 0.5 * first.mean(), "the last frame is the last picture, up to compression"


# In SAME_STEP, Gymnasium's wrapper leaves the first step of every later episode out, of its own environments too.
@pytest.mark.parametrize("mode", [NEXT_STEP, DISABLED])
def test_episode_statistics_of_rows(mortal, mode):
    recorded = vector_wrappers.RecordEpisodeStatistics(make_vec(mortal, mode, horizon=6))
    recorded.reset(seed=0)
    returns, lengths, fresh = np.zeros(3), np.zeros(3, int), np.zeros(3, bool)
    finished = []
    for _ in range(25):
        _, rewards, terminated, truncated, info = recorded.step(recorded.action_space.sample())
        assert mode == DISABLED or not rewards[fresh].any(), "this step only began them anew"
        returns[~fresh] += rewards[~fresh]
        lengths[~fresh] += 1
        ended = terminated | truncated
        assert ("episode" in info) == ended.any()
        if ended.any():
            assert np.array_equal(info["_episode"], ended)
            np.testing.assert_allclose(info["episode"]["r"][ended], returns[ended], rtol=1e-5)
            assert np.array_equal(info["episode"]["l"][ended], lengths[ended])
            finished.append(tuple(ended))
            returns[ended], lengths[ended] = 0, 0
            if mode == DISABLED:
                recorded.reset(options={"reset_mask": ended})
        fresh = ended if mode == NEXT_STEP else np.zeros(3, bool)
    assert len(set(finished)) > 2, "rows end at different times"


@pytest.mark.parametrize("mode", [NEXT_STEP, SAME_STEP])
def test_infos_as_lists(mortal, mode):
    envs, listed = make_vec(mortal, mode), vector_wrappers.DictInfoToList(make_vec(mortal, mode))
    _, info = envs.reset(seed=0)
    _, infos = listed.reset(seed=0)
    assert [row["context_episode"] for row in infos] == info["context_episode"].tolist()
    ends, fresh = 0, np.zeros(3, bool)
    for _ in range(12):
        actions = envs.action_space.sample()
        _, _, terminated, truncated, info = envs.step(actions)
        _, _, _, _, infos = listed.step(actions)
        ended = terminated | truncated
        ends += ended.sum()
        for i, row in enumerate(infos):
            told = {name for name in info if not name.startswith("_") and info[f"_{name}"][i]}
            assert row.keys() == told
            assert ("context_episode" in told) == (ended[i] if mode == SAME_STEP else fresh[i])
            assert ("terminated_probability" in told) != ("context_episode" in told)
            assert ("final_obs" in row) == ("final_info" in row) == (mode == SAME_STEP and ended[i])
            assert all(np.array_equal(row[name], info[name][i]) for name in told if name != "final_info")
            if "final_info" in row:
                assert row["final_info"] == {"terminated_probability": info["terminated_probability"][i]}
                assert row["final_info"]["terminated_probability"] > 0.5
        fresh = ended
    assert ends > 3


# Gymnasium's wrappers of vector observations refuse SAME_STEP.
@pytest.mark.parametrize("mode", [NEXT_STEP, DISABLED])
def test_transformed_observations(mortal, mode):
    space = spaces.Box(0, 1, (16, 16, 3), np.float32)
    plain = make_vec(mortal, mode)
    scaled = vector_wrappers.TransformObservation(
        make_vec(mortal, mode), lambda frames: np.float32(frames / 255), single_observation_space=space
    )
    flat = vector_wrappers.FlattenObservation(make_vec(mortal, mode))
    all_envs: list[Any] = [plain, scaled, flat]

    def compare(seen: list[np.ndarray]) -> None:
        assert all(frames in envs.observation_space for frames, envs in zip(seen, all_envs, strict=True))
        assert np.array_equal(seen[1], np.float32(seen[0] / 255))
        assert np.array_equal(seen[2], seen[0].reshape(3, -1))

    compare([envs.reset(seed=0)[0] for envs in all_envs])
    for _ in range(8):
        actions = plain.action_space.sample()
        stepped = [envs.step(actions) for envs in all_envs]
        compare([step[0] for step in stepped])
        ended = stepped[0][2]
        if mode == DISABLED and ended.any():
            compare([envs.reset(options={"reset_mask": ended})[0] for envs in all_envs])


@pytest.mark.parametrize("mode", [NEXT_STEP, SAME_STEP])
def test_normalised_rewards(mortal, mode):
    envs = vector_wrappers.NormalizeReward(make_vec(mortal, mode), gamma=0.9)
    twin = make_vec(mortal, mode)
    envs.reset(seed=0)
    twin.reset(seed=0)
    discounted, seen, ends = np.zeros(3), [], 0
    for _ in range(10):
        actions = twin.action_space.sample()
        _, rewards, terminated, *_ = twin.step(actions)
        _, normalised, *_ = envs.step(actions)
        discounted = 0.9 * discounted * ~terminated + rewards
        seen.append(discounted)
        _, variance = running_statistics(np.concatenate(seen))
        np.testing.assert_allclose(normalised, rewards / np.sqrt(variance), rtol=1e-4)
        ends += terminated.sum()
    assert ends > 3


def test_normalised_observations(worlds):
    """Only in NEXT_STEP, others it refuses."""
    envs = vector_wrappers.NormalizeObservation(make_vec(worlds["discrete"], NEXT_STEP, observation="memory"))
    twin = make_vec(worlds["discrete"], NEXT_STEP, observation="memory")
    envs.reset(seed=0)
    seen = [twin.reset(seed=0)[0]]
    for _ in range(8):
        actions = twin.action_space.sample()
        seen.append(twin.step(actions)[0])
        normalised = envs.step(actions)[0]
    mean, variance = running_statistics(np.concatenate(seen))
    np.testing.assert_allclose(normalised, (seen[-1] - mean) / np.sqrt(variance), atol=1e-3)


@pytest.mark.parametrize("mode", [NEXT_STEP, SAME_STEP])
def test_videos_of_rows(worlds, tmp_path, mode):
    """Pictures lie side by side. In SAME_STEP, as the wrapper warns, an episode's last one is not in its video."""
    envs = make_vec(worlds["discrete"], mode, num_envs=2, horizon=4, render_mode="rgb_array")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        recorded = vector_wrappers.RecordVideo(
            envs, str(tmp_path / "videos"), video_aspect_ratio=(2, 1), episode_trigger=lambda episode: episode < 2
        )
    assert [str(w.message) for w in caught if "will not contain the last frame" not in str(w.message)] == []
    assert len(caught) == (mode == SAME_STEP)
    recorded.reset(seed=0)
    for _ in range(12):
        recorded.step(recorded.action_space.sample())
    recorded.close()
    videos = {path.name: video_frames(path) for path in (tmp_path / "videos").iterdir()}
    length = 5 if mode == NEXT_STEP else 4
    assert {name: len(frames) for name, frames in videos.items()} == {
        f"rl-video-episode-{i}.mp4": length for i in range(2)
    }
    assert all(frame.shape == (16, 32, 3) for frames in videos.values() for frame in frames)


def _assert_rows_are_single_dreams(envs: Any, checkpoint: str, seed: int = 4) -> None:
    alone = [DreamEnv(checkpoint, observation="both", horizon=3, **FAST) for _ in range(envs.num_envs)]
    frames, infos = envs.reset(seed=seed)
    wanted = [env.reset(seed=seed + i) for i, env in enumerate(alone)]
    assert infos["context_episode"].tolist() == [info["context_episode"] for _, info in wanted]
    envs.action_space.seed(0)
    ended = [False] * len(alone)
    for step in range(6):
        for key in ("image", "memory"):
            assert np.array_equal(frames[key], np.stack([seen[0][key] for seen in wanted]))
        actions = envs.action_space.sample()
        frames, rewards, terminated, truncated, infos = envs.step(actions)
        wanted = [env.reset() if ended[i] else env.step(actions[i]) for i, env in enumerate(alone)]
        assert rewards.tolist() == [0.0 if ended[i] else seen[1] for i, seen in enumerate(wanted)]
        assert not terminated.any() and (truncated == (step == 2)).all()
        ended = truncated.tolist()


def test_a_list_of_single_dreams(worlds):
    make = partial(gym.make, "lssvwm/Dream-v0", checkpoint=worlds["box"], observation="both", horizon=3, **FAST)
    _assert_rows_are_single_dreams(SyncVectorEnv([make, make]), worlds["box"])
    envs = gym.make_vec(
        "lssvwm/Dream-v0", 2, vectorization_mode="sync", checkpoint=worlds["box"], observation="both", horizon=3, **FAST
    )
    assert isinstance(envs, SyncVectorEnv)
    _assert_rows_are_single_dreams(envs, worlds["box"])


def test_single_dreams_in_processes(worlds):
    """Begun anew: forked ones would inherit the threads of torch, and may hang."""
    make = partial(
        gym.make, "lssvwm_envs:lssvwm/Dream-v0", checkpoint=worlds["box"], observation="both", horizon=3, **FAST
    )
    envs = AsyncVectorEnv([make, make], context="spawn")
    try:
        _assert_rows_are_single_dreams(envs, worlds["box"])
    finally:
        envs.close()
