"""Spaces survive strict JSON, and what is not supported is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
from gymnasium import spaces

from lssvwm_rl.spaces import action_layout, image_key, image_shape, space_from_json, space_to_json

IMAGE = spaces.Box(0, 255, (8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(5, start=-2),
        spaces.MultiDiscrete([3, 4], start=[1, -1]),
        spaces.Box(-1, 1, (3,), np.float32),
        spaces.Box(np.array([-np.inf, 0.0], np.float32), np.array([1.5, np.inf], np.float32)),
        spaces.Box(-np.inf, np.inf, (2, 2), np.float64),
        IMAGE,
    ],
)
def test_a_space_survives_strict_json(space):
    text = json.dumps(space_to_json(space), allow_nan=False)
    assert space_from_json(json.loads(text)) == space


@pytest.mark.parametrize(
    ("space", "shape", "dtype"),
    [
        (spaces.Discrete(3), (), np.int64),
        (spaces.MultiDiscrete([3, 4]), (2,), np.int64),
        (spaces.Box(-1, 1, (3,), np.float64), (3,), np.float32),
    ],
)
def test_actions_have_one_layout(space, shape, dtype):
    assert action_layout(space) == (shape, np.dtype(dtype))


def test_the_image_is_found():
    assert image_key(IMAGE) is None
    both = spaces.Dict({"view": IMAGE, "pose": spaces.Box(-1, 1, (2,))})
    assert image_key(both) == "view" and image_shape(both) == (8, 8, 3)


def test_what_is_not_supported_is_named():
    with pytest.raises(ValueError, match="Text"):
        space_to_json(spaces.Text(3))
    with pytest.raises(ValueError, match="'Graph'"):
        space_from_json({"type": "Graph"})
    with pytest.raises(ValueError, match="incomplete"):
        space_from_json({"type": "Discrete"})
    with pytest.raises(ValueError, match="not supported"):
        action_layout(spaces.MultiBinary([2, 3]))
    with pytest.raises(ValueError, match="no image"):
        image_key(spaces.Box(0, 1, (4,)))
    with pytest.raises(ValueError, match="several images .a, b."):
        image_key(spaces.Dict({"a": IMAGE, "b": IMAGE}))
