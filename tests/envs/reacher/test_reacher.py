"""Reacher against kinematics in complex numbers, its pictures against areas, and Gymnasium's contract."""

from __future__ import annotations

import cmath
import math
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from lssvwm_envs.make import image_envs
from lssvwm_envs.reacher.arms import draw_arms
from lssvwm_envs.reacher.env import ReacherEnv
from lssvwm_envs.reacher.vector import ReacherVectorEnv
from support.bad_actions import BAD_ACTIONS

ENV_ID = "lssvwm/Reacher-v0"


def tip_of(shoulder: float, elbow: float) -> complex:
    """The reference: two links of 0.5, the second one's angle counted from the first."""
    return 0.5 * cmath.exp(1j * shoulder) * (1 + cmath.exp(1j * elbow))


def test_gymnasiums_checker_finds_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(ENV_ID).unwrapped)
        check_env(gym.make(ENV_ID, image_size=48, render_mode="rgb_array").unwrapped)


def test_the_arm_moves_and_pays_as_kinematics_say():
    env, rng = gym.make(ENV_ID).unwrapped, np.random.default_rng(0)
    for seed in range(5):
        frame, info = env.reset(seed=seed)
        shoulder, elbow = info["angles"].tolist()
        target = complex(*info["target"].tolist())
        assert frame.shape == (32, 32, 3) and frame.dtype == np.uint8
        assert 0.25 <= abs(target) <= 0.95
        for _ in range(50):
            action = rng.uniform(-1, 1, 2).astype(np.float32)
            shoulder, elbow = shoulder + 0.25 * float(action[0]), elbow + 0.25 * float(action[1])
            _, reward, terminated, _, info = env.step(action)
            tip = tip_of(shoulder, elbow)
            assert reward == pytest.approx(-abs(tip - target), abs=1e-5) and not terminated
            assert complex(*info["tip"].tolist()) == pytest.approx(tip, abs=1e-5)
            assert (np.abs(info["angles"]) <= np.float32(np.pi)).all()


def test_solved_joint_angles_bring_the_tip_to_the_target():
    """By the law of cosines, at full speed and no more: the best return there is, far from that of random actions."""
    envs = gym.make_vec(ENV_ID, 32, image_size=16, autoreset_mode=AutoresetMode.DISABLED)
    _, info = envs.reset(seed=0)
    returns = np.zeros(32)
    for _ in range(50):
        x, y = info["target"].T.astype(np.float64)
        elbow = np.arccos(np.clip((x**2 + y**2) / 0.5 - 1, -1, 1))
        wanted = np.stack([np.arctan2(y, x) - elbow / 2, elbow], axis=1)
        ahead = (wanted - info["angles"] + np.pi) % (2 * np.pi) - np.pi
        _, reward, _, truncated, info = envs.step(np.clip(ahead / 0.25, -1, 1).astype(np.float32))
        returns += reward
    assert truncated.all() and (reward > -1e-5).all() and returns.mean() > -9


def test_the_picture_shows_arm_and_target_where_they_are():
    pixels, scale = 440, 200  # pixels per unit: the side is 2.2
    angles, targets = np.array([[0.3, 1.2], [2.0, -0.7]]), np.array([[-0.5, -0.6], [0.4, -0.3]])
    pictures = draw_arms(angles, targets, pixels).astype(int)
    for (shoulder, elbow), target, picture in zip(angles, targets, pictures, strict=True):

        def seen(at: complex, picture: np.ndarray = picture) -> list[int]:
            return picture[int((1.1 - at.imag) * scale), int((1.1 + at.real) * scale)].tolist()

        joint, tip = 0.5 * cmath.exp(1j * shoulder), tip_of(shoulder, elbow)
        upper, lower, goal, nothing = seen(joint / 2), seen((joint + tip) / 2), seen(complex(*target)), seen(1 + 1j)
        assert len({tuple(c) for c in (upper, lower, goal, nothing)}) == 4
        assert seen(tip) == lower and seen(0.9 * joint) in (upper, lower) and seen(0) == upper
        # Pixels that are covered whole are those up to half a pixel from the edge; both links have round ends.
        for colour, radius, length in ((goal, 0.14 - 0.5 / scale, 0), (lower, 0.07 - 0.5 / scale, 0.5)):
            area = 2 * radius * length + math.pi * radius**2
            assert (picture == colour).all(-1).sum() / scale**2 == pytest.approx(area, rel=0.02)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_row_is_the_single_environment_of_its_seed(mode):
    envs = gym.make_vec(ENV_ID, 3, max_steps=7, autoreset_mode=mode)
    singles = [gym.make(ENV_ID, max_steps=7) for _ in range(3)]
    frames, info = envs.reset(seed=11)
    begun = [single.reset(seed=11 + i) for i, single in enumerate(singles)]
    envs.action_space.seed(0)
    for step in range(1, 8):
        for i, (frame, single_info) in enumerate(begun):
            assert np.array_equal(frame, frames[i])
            assert all(np.array_equal(single_info[name], info[name][i]) for name in single_info)
        actions = envs.action_space.sample()
        frames, reward, _, truncated, info = envs.step(actions)
        stepped = [single.step(action) for single, action in zip(singles, actions, strict=True)]
        assert [s[1] for s in stepped] == reward.tolist() and truncated.all() == (step == 7)
        begun = [(s[0], s[4]) for s in stepped]
    again = [single.reset() for single in singles]
    if mode == AutoresetMode.SAME_STEP:
        assert all(np.array_equal(info["final_obs"][i], begun[i][0]) for i in range(3))
    elif mode == AutoresetMode.NEXT_STEP:
        frames, reward, *_ = envs.step(actions)
        assert (reward == 0).all()
    else:
        with pytest.raises(ResetNeeded, match="reset_mask"):
            envs.step(actions)
        frames, _ = envs.reset(options={"reset_mask": np.ones(3, bool)})
    assert all(np.array_equal(frames[i], frame) for i, (frame, _) in enumerate(again))


def test_a_row_that_waits_does_not_move():
    envs = image_envs(ENV_ID, max_steps=3)(2)
    assert isinstance(envs.unwrapped, ReacherVectorEnv)
    envs.reset(seed=0)
    envs.step(np.ones((2, 2), np.float32))
    envs.reset(options={"reset_mask": np.array([False, True])})
    for _ in range(2):
        last, _, _, truncated, _ = envs.step(np.ones((2, 2), np.float32))
    assert truncated.tolist() == [True, False]
    envs.reset(seed=[None, 5], options={"reset_mask": truncated})
    frames, *_ = envs.step(np.ones((2, 2), np.float32))
    assert not np.array_equal(frames[0], last[0]) and not np.array_equal(frames[1], last[1])


def test_pictures_for_people():
    env = ReacherEnv(render_mode="rgb_array")
    frame, _ = env.reset(seed=1)
    picture = env.render()
    assert picture.shape == (256, 256, 3) and picture.dtype == np.uint8
    smaller = picture.reshape(32, 8, 32, 8, 3).mean((1, 3))
    assert np.abs(smaller - frame).max() < 60 and np.abs(smaller - frame).mean() < 1
    assert len(ReacherVectorEnv(2, render_mode="rgb_array").render()) == 2 and ReacherVectorEnv().render() is None
    with pytest.warns(UserWarning, match="without a render mode"):
        assert ReacherEnv().render() is None


@pytest.mark.parametrize("form", [0, 1], ids=["one", "two rows"])
def test_bad_actions_are_refused_and_change_nothing(form):
    env, twin = ((ReacherEnv(), ReacherEnv()), (ReacherVectorEnv(2), ReacherVectorEnv(2)))[form]
    fine = np.full(env.action_space.shape, 0.5, np.float32)
    for each in (env, twin):
        each.reset(seed=0)
        each.step(fine)
    for action in BAD_ACTIONS["box"][form]:
        with pytest.raises(InvalidAction, match=r"(?s)^Action .* is not in Box.*; give one that is\.$"):
            env.step(action)
    (frame, reward, *_), (wanted, paid, *_) = env.step(fine.astype(np.float64)), twin.step(fine)
    assert np.array_equal(frame, wanted) and np.array_equal(reward, paid)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"image_size": 8}, "Images of 8 pixels"),
        ({"image_size": 32.0}, "Images of 32.0 pixels"),
        ({"max_steps": 0}, "max_steps must be .* got 0"),
        ({"render_mode": "human"}, "no render mode 'human'"),
    ],
)
def test_bad_settings_are_refused(settings, says):
    for make in (ReacherEnv, ReacherVectorEnv):
        with pytest.raises(ValueError, match=says):
            make(**settings)
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        ReacherVectorEnv(0)


def test_steps_need_a_reset():
    env = ReacherEnv(max_steps=1)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(2))
    env.reset(seed=0)
    assert env.step(np.zeros(2))[3]
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(2))
