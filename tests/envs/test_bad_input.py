"""What dreams say of bad input: the right error with the value and the remedy in it, and nothing is changed by it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from lssvwm_envs import register_checkpoint
from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.vector import DreamVectorEnv
from support.playing import assert_goes_on_alike, in_the_middle
from support.small_checkpoints import save_checkpoint

FAST: dict[str, Any] = {"denoise_steps": 1}
ID = "lssvwm/Dream-v0"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: {}, r'name one, as in gym.make\("lssvwm/Dream-v0", checkpoint="runs/NAME"\)'),
        (lambda folder: {"checkpoint": None}, "name one"),
        (lambda folder: {"checkpoint": str(folder / "nothing")}, "no checkpoint '.*nothing'; give a run folder"),
        (lambda folder: {"checkpoint": str(folder / "file.txt")}, "no checkpoint '.*file.txt'; give a run folder"),
        (lambda folder: {"checkpoint": str(folder)}, r"holds no finished checkpoint \(config.json is missing\); train"),
    ],
)
def test_checkpoints_that_are_none(tmp_path, make, sentence):
    (tmp_path / "file.txt").write_text("no run")
    settings = make(tmp_path)
    error = FileNotFoundError if settings.get("checkpoint") else ValueError
    for attempt in (gym.make, lambda name, **kwargs: gym.make_vec(name, 2, **kwargs)):
        with pytest.raises(error, match=sentence):
            attempt(ID, **settings)
    if error is FileNotFoundError:
        with pytest.raises(error, match=sentence):
            register_checkpoint("lssvwm/Nothing-v0", settings["checkpoint"])
        assert "lssvwm/Nothing-v0" not in gym.registry


SETTINGS = [
    ({"horizon": 0}, r"horizon .* whole numbers of at least 1, got 1, 0 and 4"),
    ({"horizon": 2.5}, "at least 1, got 1, 2.5 and 4"),
    ({"horizon": None}, "got 1, None and 4"),
    ({"horizon": float("nan")}, "got 1, nan and 4"),
    ({"horizon": "9"}, "got 1, '9' and 4"),
    ({"denoise_steps": 0}, "denoise_steps must be .* at least 1, got 1, 256 and 0"),
    ({"denoise_steps": 1.5}, "got 1, 256 and 1.5"),
    ({"context_length": -1}, "context_length.* at least 1, got -1, 256 and 4"),
    *(
        ({"temperature": temperature}, f"A temperature of {temperature!r} is no number of at least 0; use 1")
        for temperature in (-0.1, float("nan"), float("inf"), "1", None, True)
    ),
    ({"engine": "fast"}, "'fast'.*auto.*torch.*compiled.*native"),
    ({"compiled": True}, 'compiled=True is now engine="compiled"'),
    ({"compiled": False}, 'compiled=False is now engine="auto"'),
    ({"observation": "pixels"}, "Observation 'pixels' is unknown; use image, memory or both"),
    ({"observation": None}, "Observation None is unknown"),
    ({"render_mode": "human"}, "Render mode 'human' is unknown; use rgb_array or None"),
    ({"render_mode": "ansi"}, "Render mode 'ansi' is unknown"),
]


@pytest.mark.parametrize(("settings", "sentence"), SETTINGS)
def test_settings_that_do_not_fit(worlds, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        DreamEnv(worlds["discrete"], **settings)
    with pytest.raises(ValueError, match=sentence):
        gym.make_vec(ID, 2, checkpoint=worlds["discrete"], **settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_envs": 0}, "num_envs must be a whole number of at least 1, got 0"),
        ({"num_envs": -2}, "got -2"),
        ({"num_envs": 1.5}, "got 1.5"),
        ({"num_envs": None}, "got None"),
        ({"autoreset_mode": "Sometimes"}, "'Sometimes' is unknown; use one of NextStep, SameStep, Disabled"),
        ({"autoreset_mode": None}, "mode None is unknown"),
    ],
)
def test_vector_settings_that_do_not_fit(worlds, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        gym.make_vec(ID, checkpoint=worlds["discrete"], **settings)


def test_a_checkpoint_without_contexts_begins_with_given_ones(tmp_path):
    run = save_checkpoint(tmp_path / "run", "discrete", contexts=False)
    remedy = r'no episodes to start dreams from; give real frames with reset\(options={"context": \(frames, actions\)}'
    context = np.zeros((3, 16, 16, 3), np.uint8), np.array([0, 2])
    for env, action in ((gym.make(ID, checkpoint=run), 1), (gym.make_vec(ID, 2, checkpoint=run), [1, 1])):
        with pytest.raises(ValueError, match=remedy):
            env.reset(seed=0)
        with pytest.raises(ResetNeeded, match="call"):
            env.step(action)
        frames, info = env.reset(seed=0, options={"context": context})
        assert not frames.any() and info == {}
        assert env.step(action)[0].any()
    (tmp_path / "run" / "contexts").mkdir()
    shutil.copy(tmp_path / "run" / "data" / "header.json", tmp_path / "run" / "contexts")
    with pytest.raises(ValueError, match=remedy):  # a store of no episodes
        DreamEnv(run).reset()


@pytest.mark.parametrize(
    ("mine", "theirs", "sentence"),
    [
        ("grey", "discrete", r"frames of shape \(16, 16, 3\), the world model takes \(16, 16, 1\); use the env"),
        ("discrete", "box", "has the action space .*'Box'.*, the world model .*'Discrete'.*; use the env"),
    ],
)
def test_contexts_of_another_environment(worlds, tmp_path, mine, theirs, sentence):
    shutil.copytree(worlds[mine], tmp_path / "run", ignore=shutil.ignore_patterns("contexts"))
    shutil.copytree(Path(worlds[theirs]) / "contexts", tmp_path / "run" / "contexts")
    for env in (DreamEnv(str(tmp_path / "run"), **FAST), DreamVectorEnv(str(tmp_path / "run"), 2, **FAST)):
        with pytest.raises(ValueError, match=sentence):
            env.reset()


FRAMES = np.zeros((3, 16, 16, 3), np.uint8)
PLANS: dict[str, Any] = {"discrete": np.array([0, 2]), "multi_discrete": np.array([[0, 1], [2, 0]])}
CONTEXTS = [
    ("discrete", lambda: (np.zeros((3, 56, 56, 3), np.uint8), PLANS["discrete"]), r"\(3, 56, 56, 3\) uint8 do not fit"),
    ("discrete", lambda: (FRAMES[..., :1], PLANS["discrete"]), r"do not fit; give T frames of \(16, 16, 3\) uint8"),
    ("discrete", lambda: (FRAMES / 255, PLANS["discrete"]), "float64 do not fit"),
    ("discrete", lambda: (FRAMES[0], PLANS["discrete"]), "do not fit"),
    ("discrete", lambda: (FRAMES[:0], PLANS["discrete"][:0]), r"\(0, 16, 16, 3\) uint8 do not fit"),
    ("discrete", lambda: (FRAMES, np.zeros(3, int)), r"3 context frames need \(2,\) actions between them, got \(3,\)"),
    ("discrete", lambda: (FRAMES, None), r"got \(\)"),
    ("discrete", lambda: (FRAMES, [0, 3]), r"array\(\[0, 3\]\) are not all in Discrete\(3\); give those between"),
    ("discrete", lambda: (FRAMES, [0, -1]), "are not all in"),
    ("discrete", lambda: (FRAMES, [0, 0.5]), "are not all in"),
    ("discrete", lambda: (FRAMES, ["0", "1"]), "are not all in"),
    ("multi_discrete", lambda: (FRAMES, PLANS["discrete"]), r"need \(2, 2\) actions between them, got \(2,\)"),
    # Sizes are 3 and 2, and components share a table: only a check tells that the second one is out of range.
    ("multi_discrete", lambda: (FRAMES, [[0, -1], [0, 0]]), r"are not all in MultiDiscrete\(\[3 2\]\)"),
    ("multi_discrete", lambda: (FRAMES, [[3, 0], [0, 0]]), r"are not all in MultiDiscrete\(\[3 2\]\)"),
    ("box", lambda: (FRAMES, [[0, np.nan], [0, 0]]), "(?s)nan.* are not all in Box"),
    ("box", lambda: (FRAMES, [[0, np.inf], [0, 0]]), "(?s)inf.* are not all in Box"),
    ("discrete", lambda: FRAMES, r"must be \(frames, actions\) or \(frames, actions, vectors\), got a ndarray"),
    ("discrete", lambda: (FRAMES,), "got a tuple of 1"),
    ("discrete", lambda: (FRAMES, PLANS["discrete"], None, None), "got a tuple of 4"),
    ("discrete", lambda: {"frames": FRAMES, "actions": PLANS["discrete"]}, "got a dict"),
    ("discrete", lambda: (FRAMES, PLANS["discrete"], np.zeros((3, 2))), "of a model with 0 numbers per frame"),
    ("told", lambda: (FRAMES, PLANS["discrete"], np.zeros((3, 5))), r"vectors of \(3, 5\) do not fit 3 frames"),
    ("told", lambda: (FRAMES, PLANS["discrete"], np.full((3, 2), np.nan)), "NaN or infinity; give finite"),
]


@pytest.mark.parametrize("world", ["discrete", "multi_discrete", "box", "told"])
def test_contexts_that_do_not_fit(worlds, world):
    for env, twin in zip(in_the_middle(worlds[world]), in_the_middle(worlds[world]), strict=True):
        for _, context, sentence in (case for case in CONTEXTS if case[0] == world):
            with pytest.raises(ValueError, match=sentence):
                env.reset(seed=9, options={"context": context()})
        assert_goes_on_alike(env, twin)


def test_contexts_that_fit(worlds):
    """Real actions may be out of a Box; one frame needs no action; vectors may be left out."""
    for world, context in (
        ("box", (FRAMES, [[5, 0], [0, -5]])),
        ("discrete", (FRAMES[:1], [])),
        ("multi_discrete", (FRAMES[:1], np.zeros((0, 2)))),
        ("told", (FRAMES, PLANS["discrete"])),
        ("told", (list(FRAMES), [0, 2], np.ones((3, 2)))),
    ):
        for env in (DreamEnv(worlds[world], **FAST), DreamVectorEnv(worlds[world], 2, **FAST)):
            env.reset(options={"context": context})
            frame, reward, *_ = env.step(env.action_space.sample())
            assert frame in env.observation_space and np.isfinite(reward).all()


def test_resets_that_do_not_fit(worlds):
    (env, envs), (twin, twins) = in_the_middle(worlds["discrete"]), in_the_middle(worlds["discrete"])
    for mask in ([1, 0], [1.0, 0.0], [True], np.ones(3, bool), np.ones((2, 1), bool), [False, False], True, None, "ab"):
        with pytest.raises(ValueError, match="reset_mask must be 2 booleans, some of them True, got"):
            envs.reset(seed=5, options={"reset_mask": mask})
    for seeds in ([1], [1, 2, 3], (), "x"):
        with pytest.raises(ValueError, match=f"{len(seeds)} seeds for 2 environments; give one for each"):
            envs.reset(seed=seeds)
    with pytest.raises(ValueError, match="Seed 1.5 is not a whole number; give one, or a list of 2"):
        envs.reset(seed=1.5)
    for seeds in (-1, [3, -1], [3, 1.5], [3, "x"]):  # the first row's is fine
        with pytest.raises(gym.error.Error, match="Seed must be"):
            envs.reset(seed=seeds)
    for seed in (-1, 1.5, "x", [1]):
        with pytest.raises(gym.error.Error, match="Seed must be"):
            env.reset(seed=seed)
    with pytest.raises(ValueError, match="Option 'contxt' is unknown; use context or state"):
        env.reset(seed=5, options={"contxt": None})
    with pytest.raises(ValueError, match="Option 'contxt' is unknown; use context or state or reset_mask"):
        envs.reset(seed=5, options={"contxt": None})
    with pytest.raises(ValueError, match="Option 'reset_mask' is unknown"):
        env.reset(seed=5, options={"reset_mask": np.ones(1, bool)})
    assert_goes_on_alike(env, twin)
    assert_goes_on_alike(envs, twins)


def test_ids_that_do_not_fit(worlds):
    with pytest.raises(gym.error.Error, match="Malformed environment ID: my maze"):
        register_checkpoint("my maze", worlds["discrete"])
