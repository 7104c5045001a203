"""The recall room: what the masks say about tiles is what the frames show."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from lssvwm_envs.explorers import make_explorer
from lssvwm_envs.make import image_envs, make_image_env
from lssvwm_envs.minigrid.recall import VIEW, pose_surfaces, visible_tiles
from lssvwm_rl.data.collect import collect
from lssvwm_rl.measures.psnr import psnr_by_mask
from lssvwm_rl.measures.revisit import IGNORED, MEMORY, NEVER, WINDOW, revisit_masks

ENV_ID, SIZE, TILE = "lssvwm/MiniGridRecall-v0", 9, 8


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    out = tmp_path_factory.mktemp("recall") / "data"
    return list(collect(image_envs(ENV_ID), make_explorer, out, 4, 2, vector_keys=("pose",)))


def masks_of(episode):
    return revisit_masks(pose_surfaces(episode.vectors, SIZE, TILE), 4)


def test_it_is_an_environment_whose_size_is_checked():
    check_env(gym.make(ENV_ID).unwrapped, skip_render_check=True)
    assert make_image_env(ENV_ID).observation_space.shape == (24, 24, 3)
    with pytest.raises(ValueError, match="at least 5 tiles wide, got 4"):
        gym.make(ENV_ID, size=4)


def test_a_tile_that_was_seen_looks_the_same_again(episodes):
    """Tiles are found by the pose alone; the middle of one is its plain colour, walls and the agent's tile aside."""
    for episode in episodes:
        colours: dict[tuple, set] = {}
        masks = masks_of(episode)
        for t, frame in enumerate(episode.frames):
            tiles = visible_tiles(episode.vectors[t], SIZE)
            for i, j in np.ndindex(VIEW, VIEW):
                y, x = i * TILE + TILE // 2, j * TILE + TILE // 2
                kind, place = masks[t, y, x], tuple(tiles[i, j])
                if kind != IGNORED:
                    assert (kind != NEVER) == (place in colours)
                    colours.setdefault(place, set()).add(tuple(frame[y, x]))
        assert len(colours) > 8 and all(len(seen) == 1 for seen in colours.values())
        assert len(set().union(*colours.values())) >= 5


def test_walks_come_back_after_the_window_has_passed(episodes):
    shares = [np.mean(masks_of(e)[1:] == MEMORY) for e in episodes]
    assert min(shares) > 0.05
    poses = [tuple(np.rint(pose * 100)) for pose in episodes[0].vectors]
    assert len(set(poses)) < len(poses), "the way back leads through the same places"


def test_psnr_is_that_of_the_chosen_pixels(episodes):
    masks = [masks_of(e) for e in episodes]
    wrong = [e.frames[1:].copy() for e in episodes]
    for frames, mask in zip(wrong, masks, strict=True):
        chosen = mask[1:] == MEMORY
        frames[chosen] = frames[chosen] ^ 16  # an error of 16 in every channel
    names = {NEVER: "never", MEMORY: "memory", WINDOW: "window"}
    result = psnr_by_mask(wrong, [e.frames[1:] for e in episodes], [mask[1:] for mask in masks], names)
    assert result["memory"] == pytest.approx(20 * np.log10(255 / 16))
    assert result["window"] > 100 and result["never"] > 100


def test_surfaces_are_those_of_the_pose():
    env = make_image_env(ENV_ID)
    _, info = env.reset(seed=3)
    rng, turns = np.random.default_rng(0), set()
    for _ in range(40):
        surfaces = env.unwrapped.surfaces()
        assert surfaces.shape == (24, 24) and surfaces.dtype == np.int32
        np.testing.assert_array_equal(surfaces, pose_surfaces(info["pose"][None], SIZE)[0])
        assert (surfaces[-1, 12], surfaces.max() < SIZE * SIZE) == (-1, True)
        turns.add(env.unwrapped.agent_dir)
        _, _, _, _, info = env.step(int(rng.integers(3)))
    assert turns == {0, 1, 2, 3}
