"""What of an observation becomes the image, how it lies then, and with which seeds environments are reset."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import SyncVectorEnv

from lssvwm_envs.image import AsImage, image_wrapper
from lssvwm_envs.levels import GivenSeeds, read_seeds
from lssvwm_envs.make import EnvSetup
from lssvwm_rl.data.splits import split_seed
from support.pictures import Pictures

LAYOUTS = {
    "HWC": ((16, 12, 3), lambda image: image),
    "CHW": ((3, 16, 12), lambda image: image.transpose(1, 2, 0)),
    "HW": ((16, 12), lambda image: image[:, :, None]),
}


@pytest.fixture
def pictures():
    gym.register("Pictures-v0", "support.pictures:Pictures", disable_env_checker=True)
    yield "Pictures-v0"
    del gym.registry["Pictures-v0"]


def raw(shape, key, seed=0):
    """The image that the environment itself gives."""
    observation, _ = Pictures({key: shape, "speed_": (3, 3)} if key else shape).reset(seed=seed)
    return observation[key] if key else observation


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_lie_with_their_channels_last(layout):
    shape, moved = LAYOUTS[layout]
    env = AsImage(Pictures(shape))
    observation, _ = env.reset(seed=0)
    assert np.array_equal(observation, moved(raw(shape, None))) and env.observation_space.contains(observation)
    assert env.observation_space.contains(env.step(0)[0]) and observation.flags.c_contiguous
    assert env.changes == (layout != "HWC")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sizes_change_by_means_of_what_a_pixel_covers(layout):
    shape, moved = LAYOUTS[layout]
    whole = moved(raw(shape, None)).astype(float)
    half, _ = AsImage(Pictures(shape), resize=(8, 4)).reset(seed=0)
    means = whole.reshape(8, 2, 4, 3, -1).mean(axis=(1, 3))
    assert half.shape == (8, 4, whole.shape[2]) and np.abs(half - means).max() <= 1, "rounded, twice"
    twice, _ = AsImage(Pictures(shape), resize=(32, 24)).reset(seed=0)
    assert np.array_equal(twice, whole.repeat(2, 0).repeat(2, 1))


def test_opacity_is_a_channel_like_others():
    whole = raw((8, 8, 4), None).astype(float)
    half, _ = AsImage(Pictures((8, 8, 4)), resize=(4, 4)).reset(seed=0)
    assert np.abs(half - whole.reshape(4, 2, 4, 2, 4).mean(axis=(1, 3))).max() <= 1


def test_one_of_several_images_is_kept_with_all_that_is_none():
    shapes = {"left": (16, 12, 3), "right": (16, 12, 3), "depth": (16, 12)}
    with pytest.raises(ValueError, match=r"several images \(left, right\); say which one with --image KEY"):
        AsImage(Pictures(shapes))
    for key in shapes:
        env = AsImage(Pictures(shapes), key)
        observation, _ = env.reset(seed=0)
        assert set(observation) == {key, "speed"} and env.observation_space.contains(observation)
        expected = Pictures(shapes).reset(seed=0)[0][key]
        assert np.array_equal(observation[key].squeeze(), expected.squeeze())
    only = AsImage(Pictures({"left": (16, 12, 3), "depth": (16, 12)}))
    assert only.key == "left", "the only one with channels last"
    with pytest.raises(ValueError, match="no uint8 image .* under the key 'speed' .* it has depth, left, right"):
        AsImage(Pictures(shapes), "speed")
    with pytest.raises(ValueError, match="under the key 'rgb'"):
        AsImage(Pictures(), "rgb")
    for size in ((0, 4), (4, -1)):
        with pytest.raises(ValueError, match="cannot be resized to"):
            AsImage(Pictures(), resize=size)


@pytest.mark.parametrize(
    "space", [spaces.Box(0, 1, (8, 8, 3), np.float32), spaces.Box(0, 255, (8, 8, 2), np.uint8), spaces.Text(4)]
)
def test_what_is_no_image(space):
    env = Pictures()
    env.observation_space = space
    with pytest.raises(ValueError, match="holds no image; wrap the environment"):
        AsImage(env)


def test_images_are_checked_before_they_are_changed():
    env = Pictures((16, 12))
    wrapped = AsImage(env, resize=(8, 6))
    env._noise = lambda shape: np.zeros((16, 13), np.uint8)
    with pytest.raises(ValueError, match=r"declares images \(16, 12\) uint8 and gives \(16, 13\) uint8"):
        wrapped.reset(seed=0)


def test_one_line_says_what_the_image_is():
    said = AsImage(Pictures({"camera": (3, 21, 16)}), resize=(10, 8)).sentence()
    assert said == "observation['camera'], 21x16 pixels of 3 channels, uint8, from channels first, resized to 10x8"
    assert AsImage(Pictures((84, 84))).sentence() == (
        "the observation, 84x84 pixels of 1 channel, uint8, from two dimensions"
    )


def test_specs_hold_what_is_put_around(pictures):
    """And Gymnasium makes the same environment of them."""
    setup = EnvSetup(pictures, {"shapes": {"a": [3, 8, 6], "b": [9, 9]}}, "a", (4, 3), ("5:8",))
    spec = EnvSpec.from_json(setup.spec_json())
    assert [each.name for each in spec.additional_wrappers] == ["AsImage", "GivenSeeds"]
    ours, theirs = setup.make(), gym.make(spec)
    for seed in (0, 4):
        for one, other in zip(ours.reset(seed=seed)[0].values(), theirs.reset(seed=seed)[0].values(), strict=True):
            assert np.array_equal(one, other)
    plain = EnvSetup(pictures)
    assert EnvSpec.from_json(plain.spec_json()) == gym.make(pictures).spec, "nothing is put around what is an image"
    assert image_wrapper(setup.make()).size == (4, 3)
    with pytest.raises(ValueError, match="nothing says what its image is"):
        image_wrapper(Pictures())


def test_many_are_as_one(pictures):
    setup = EnvSetup(pictures, {"shapes": (3, 8, 6)}, resize=(4, 3))
    envs = setup.make_many(2)
    observation, _ = envs.reset(seed=[3, 4])
    for i in range(2):
        assert np.array_equal(observation[i], setup.make().reset(seed=3 + i)[0])
    maze = EnvSetup("lssvwm/MemoryMaze-5x5-v0", {"image_size": 32}, resize=(16, 16)).make_many(2)
    assert isinstance(maze, SyncVectorEnv) and maze.reset(seed=0)[0].shape == (2, 16, 16, 3), "no vector form of it"


def test_arguments_that_are_none(pictures):
    with pytest.raises(ValueError, match="Pictures-v0 cannot be made with shaps .*; see --env-kwargs"):
        EnvSetup(pictures, {"shaps": 3}).make()


def test_seeds_as_people_write_them():
    assert read_seeds(["0:3"]) == [0, 1, 2] and read_seeds(["7", "2:4", "0"]) == [7, 2, 3, 0] and read_seeds([]) == []
    for text in ("x", "-1", "1:", ":4", "1:2:3", "1.5", "4:4", "5:2", "0:99999999999"):
        with pytest.raises(ValueError, match="names"):
            read_seeds([text])


def test_worlds_of_any_split_are_the_given_levels():
    env = Pictures(levels=100)
    given = GivenSeeds(env, ["40:43", "7"])
    for split in ("train", "validation", "test"):
        for k in range(6):
            given.reset(seed=split_seed(split, k))
    assert env.asked == [40, 41, 42, 7, 40, 41] * 3
    env.asked.clear()
    drawn = []
    for _ in range(2):
        given.reset(seed=3)
        for _ in range(30):
            given.reset()
        drawn.append(list(env.asked))
        env.asked.clear()
    assert drawn[0] == drawn[1] and set(drawn[0]) == {40, 41, 42, 7}, "resets without a seed stay in them"


def test_levels_that_are_not_there_are_a_sentence():
    with pytest.raises(
        ValueError, match=r"cannot be reset with seed 1,500,000,000 \(.*out of range.*name those .*--seeds"
    ):
        AsImage(Pictures(levels=100)).reset(seed=split_seed("test", 0))
