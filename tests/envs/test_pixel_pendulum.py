"""Pendulum in pictures: the same task, and a picture that shows its angle."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import InvalidAction

from lssvwm_envs.make import image_envs, make_image_env

ENV_ID = "lssvwm/PixelPendulum-v0"


def test_it_is_pendulum():
    ours, theirs = make_image_env(ENV_ID), gym.make("Pendulum-v1")
    assert ours.observation_space == gym.spaces.Box(0, 255, (32, 32, 3), np.uint8)
    assert ours.action_space == theirs.action_space
    frame, _ = ours.reset(seed=3)
    theirs.reset(seed=3)
    theirs.action_space.seed(0)
    for step in range(1, 201):
        assert frame in ours.observation_space
        action = theirs.action_space.sample()
        frame, reward, terminated, truncated, _ = ours.step(action)
        assert (reward, terminated, truncated) == theirs.step(action)[1:4] and truncated == (step == 200)


@pytest.mark.parametrize("image_size", [16, 32, 64])
def test_the_picture_shows_the_angle(image_size):
    env = gym.make(ENV_ID, image_size=image_size)
    for seed in range(6):
        frame, _ = env.reset(seed=seed)
        theta = env.unwrapped.state[0]
        red = frame[..., 0].astype(float) - frame[..., 2]
        at = (np.arange(image_size) + 0.5) / image_size - 0.5
        x, y = (red * at).sum() / red.sum(), -(red * at[:, None]).sum() / red.sum()
        # Upright is 0, and it grows against the clock.
        assert abs(np.angle((x + 1j * y) / (1j * np.exp(1j * theta)))) < 0.15
        assert np.hypot(x, y) == pytest.approx(0.5 / 4.4, rel=0.15), "half a rod, in sides of the picture"


def test_several_are_played_side_by_side():
    envs = image_envs(ENV_ID)(2)
    frames, _ = envs.reset(seed=0)
    alone, _ = gym.make(ENV_ID).reset(seed=1)
    assert np.array_equal(frames[1], alone)


def test_too_few_pixels_are_refused():
    with pytest.raises(ValueError, match="Images of 8 pixels cannot be drawn; use at least 16"):
        gym.make(ENV_ID, image_size=8)


NAN = float("nan")


@pytest.mark.parametrize(
    "action",
    ["left", 1.0, None, [], [0.5, 0.5], [[0.5]], [NAN], [np.inf], [1e300], [2.1], np.array([-2.1]), np.array(["1"]),
     np.array([1j]), np.array([0.5], object), {}],
)  # fmt: skip
def test_actions_that_do_not_fit_are_refused_and_change_nothing(action):
    env, twin = make_image_env(ENV_ID), make_image_env(ENV_ID)
    for each in (env, twin):
        each.reset(seed=4)
        each.step(np.array([1.5], np.float32))
    with pytest.raises(InvalidAction, match=r"^Action .* is not in Box.*; give one that is\.$"):
        env.step(action)
    ours, theirs = env.step(np.array([0.5])), twin.step(np.array([0.5], np.float32))
    assert np.array_equal(ours[0], theirs[0]) and ours[1:] == theirs[1:]


def test_rows_that_do_not_fit_are_refused():
    envs = image_envs(ENV_ID)(2)
    envs.reset(seed=0)
    with pytest.raises(InvalidAction, match="is not in Box"):
        envs.step(np.array([[0.5], [NAN]], np.float32))
