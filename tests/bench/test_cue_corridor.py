"""The corridor pays for the door that the lamp said, and nothing after the first frame shows the lamp."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from lssvwm_bench.cue_corridor import LEFT, RIGHT, STEPS, WAIT, CueCorridor


def test_it_is_an_environment():
    check_env(CueCorridor(), skip_render_check=True)


@pytest.mark.parametrize("door", [WAIT, LEFT, RIGHT])
def test_the_lamp_decides_and_is_seen_once(door):
    shown = {}
    for seed in range(20):
        env = CueCorridor()
        first, _ = env.reset(seed=seed)
        env.bricks[:] = 100
        frames = [env.step(WAIT)[0] for _ in range(STEPS - 1)]
        last, reward, terminated, truncated, _ = env.step(door)
        assert terminated and not truncated and reward == (door == (LEFT, RIGHT)[env.lamp])
        known = shown.setdefault(env.lamp, (first, frames, last))
        assert all(np.array_equal(a, b) for a, b in zip((*frames, last), (*known[1], known[2]), strict=True))
    assert sorted(shown) == [0, 1]
    assert all(np.array_equal(a, b) for a, b in zip(shown[0][1], shown[1][1], strict=True))
    assert (shown[0][0] != shown[1][0]).any()
