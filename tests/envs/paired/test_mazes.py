"""Twins of mazes differ in the look of what comes back into view, and are the same mazes otherwise."""

from __future__ import annotations

import numpy as np

from lssvwm_envs.make import image_envs
from lssvwm_envs.paired.mazes import Redecorated, other_styles
from lssvwm_envs.paired.record import record_pairs
from lssvwm_envs.paired.twins import TwinConfig, replay
from lssvwm_rl.data.play import play

MAZE, SMALL = "lssvwm/MemoryMaze-5x5-v0", {"image_size": 32}
CONFIG = TwinConfig(window=10, away=12, steps=100, vector_keys=("pose",))
PARTS = ("open_cells", "x", "y", "heading", "objects", "target", "steps", "seeds", "_rng")


def test_only_the_styles_that_are_given_differ():
    envs, bare = (image_envs(MAZE, **SMALL)(3) for _ in range(2))
    plain, _ = bare.reset(seed=[4, 5, 6])
    walls, floors = bare.unwrapped.mazes.wall_styles.copy(), bare.unwrapped.mazes.floor_styles.copy()
    walls[1, 2, 3] = (walls[1, 2, 3] + 1) % 8
    floors[2] = (floors[2] + 1) % 4
    frames, info = Redecorated(envs, walls, floors).reset(seed=[4, 5, 6])
    one, two = bare.unwrapped.mazes, envs.unwrapped.mazes
    for name in PARTS:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    np.testing.assert_array_equal(two.wall_styles, walls)
    np.testing.assert_array_equal(two.floor_styles, floors)
    np.testing.assert_array_equal(frames[0], plain[0])
    # Of the third maze the floor alone looks different.
    changed, floor = (frames[2] != plain[2]).any(axis=-1), one.surfaces()[2] % 5 == 4
    assert changed.any() and floor[changed].all()


def test_a_dict_observation_shows_the_other_walls_too():
    plain, extra = (image_envs(MAZE, extra_obs=each, **SMALL)(1) for each in (False, True))
    plain.reset(seed=[4])
    walls, floors = plain.unwrapped.mazes.wall_styles, plain.unwrapped.mazes.floor_styles
    decorated = Redecorated(extra, (walls + 1) % 8, floors)
    observation, _ = decorated.reset(seed=[4])
    np.testing.assert_array_equal(observation["image"], extra.unwrapped.mazes.frames())
    np.testing.assert_array_equal(observation["maze_layout"], plain.unwrapped.mazes.open_cells)


def test_what_differs_was_seen_then_not_for_the_window_and_comes_back():
    pairs = record_pairs(MAZE, SMALL, 6, CONFIG)
    assert len(pairs) >= 5 and all(pair.in_frame for pair in pairs)
    for pair in pairs:
        a, b = pair.first, pair.second
        np.testing.assert_array_equal(a.actions, b.actions)
        np.testing.assert_array_equal(a.vectors, b.vectors)
        np.testing.assert_array_equal(a.rewards, b.rewards)
        for t in range(len(a) - CONFIG.window, len(a)):
            np.testing.assert_array_equal(a.frames[t], b.frames[t])
        # Played again with an eye on what pixels show: those that differ had not been in view in the window.
        shown = surfaces(pair.first)
        changed = set(shown[-1][(a.frames[-1] != b.frames[-1]).any(axis=-1)].tolist())
        assert changed and -1 not in changed
        assert not changed & set(np.unique(shown[-1 - CONFIG.window : -1]).tolist())
        assert changed <= set(np.unique(shown[: -1 - CONFIG.window]).tolist())


def test_what_never_comes_back_stays_as_it_is():
    envs = image_envs(MAZE, **SMALL)(1)
    envs.reset(seed=[4])
    mazes = envs.unwrapped.mazes
    shown = mazes.surfaces()[:, None].repeat(30, axis=1)  # stands still: nothing is ever out of view
    walls, floors = other_styles(mazes, shown, CONFIG)
    np.testing.assert_array_equal(walls, mazes.wall_styles)
    np.testing.assert_array_equal(floors, mazes.floor_styles)
    shown[:, 5:25] = -1
    walls, floors = other_styles(mazes, shown, CONFIG)
    assert (walls != mazes.wall_styles).any() and (floors != mazes.floor_styles).any()


def surfaces(episode) -> np.ndarray:
    """(T+1, H, W) of the same walk in the same maze."""
    envs = image_envs(MAZE, max_steps=len(episode), **SMALL)(1)
    return np.stack([envs.unwrapped.surfaces()[0] for _ in play(envs, replay([episode]), [iter([episode.seed])])])
