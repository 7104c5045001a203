"""Controls of every kind of action, and the bound on kept states."""

from __future__ import annotations

import json

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import InvalidAction

from lssvwm_envs.play.controls import action_of, controls_of
from lssvwm_envs.play.stage import Offer, packaged
from support.played import session_of
from support.small_checkpoints import ACTIONS, save_checkpoint

VALUES = {"discrete": 2, "multi_discrete": [2, 1], "box": [0.25, -1]}


@pytest.mark.parametrize("world", ACTIONS)
def test_every_kind_of_action_is_played(world, tmp_path):
    checkpoint = save_checkpoint(tmp_path, world)
    session = session_of(checkpoint, passes=1)
    json.dumps(session.controls)
    session.act(VALUES[world])
    taken = session.shown.now.action
    assert np.array_equal(taken, np.array(VALUES[world], taken.dtype))


def test_names_and_keys():
    minigrid = controls_of("MiniGrid-MemoryS7-v0", spaces.Discrete(7))["buttons"]
    assert [button["keys"][0] for button in minigrid[:3]] == ["ArrowLeft", "ArrowRight", "ArrowUp"]
    maze = controls_of("lssvwm/MemoryMaze-9x9-v0", spaces.Discrete(6))["buttons"]
    assert maze[4]["keys"] == ["ArrowUp+ArrowLeft", "4"]
    other = controls_of(None, spaces.Discrete(12, start=-1))["buttons"]
    assert [button["action"] for button in other] == list(range(-1, 11))
    assert other[9]["keys"] == ["9"] and other[10]["keys"] == []
    for buttons in (minigrid, maze, other):
        keys = [key for button in buttons for key in button["keys"]]
        assert len(set(keys)) == len(keys) and not set(keys) & set(",.frnm[]-+")


def test_choices_and_sliders():
    choices = controls_of(None, spaces.MultiDiscrete([3, 2], start=[1, 0]))
    assert choices == {"kind": "choices", "sizes": [3, 2], "start": [1, 0]}
    sliders = controls_of(None, spaces.Box(np.array([-1, -np.inf], np.float32), np.array([2, 3], np.float32)))
    assert sliders["low"] == [-1.0, None] and sliders["high"] == [2.0, 3.0] and not sliders["whole"]


@pytest.mark.parametrize("value", [[0.5], [0.5, 2.0], [0.5, float("nan")], ["a", "b"], [[0, 0], [0, 0]], [[0], [0, 1]]])
def test_actions_of_no_box(value):
    with pytest.raises(InvalidAction):
        action_of(value, ACTIONS["box"])


def test_packaged_checkpoints_are_offered_with_their_environments():
    offers = {name: Offer.of(name) for name in packaged()}
    assert {"minigrid-memory", "maze-memory"} <= set(offers) and all(offer.setup for offer in offers.values())


def test_kept_states_stay_within_their_limit(tmp_path):
    checkpoint = save_checkpoint(tmp_path, "discrete")
    session = session_of(checkpoint, passes=1)
    each = session.shown and session.kept.nbytes
    session.kept.limit, session.kept.near = 8 * each, 0.0
    for _ in range(40):
        session.act(0)
        assert session.kept.nbytes <= 8 * each
    at = [i for i, moment in enumerate(session.shown.moments) if session.kept.get(moment) is not None]
    assert at[-1] == 40 and len(at) >= 4 and at[0] < 20, "they are spread"
