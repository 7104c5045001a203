"""Dreams keep the contracts of Gymnasium and Stable-Baselines3, as their own checkers and tools read them."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.passive_env_checker import env_render_passive_checker
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from lssvwm_envs import register_checkpoint
from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.vector import DreamVectorEnv
from lssvwm_rl.model.heat_map import heat_map
from support.playing import assert_same, leaves, play
from support.small_checkpoints import WORLDS, save_checkpoint

OBSERVATIONS = ("image", "memory", "both")
MODES = tuple(AutoresetMode)
FAST: dict[str, Any] = {"denoise_steps": 1}


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("world", WORLDS)
def test_gymnasiums_checker_finds_nothing(worlds, world, observation):
    settings = {**FAST, "observation": observation, "render_mode": "rgb_array"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make("lssvwm/Dream-v0", checkpoint=worlds[world], **settings).unwrapped)
        direct = DreamEnv(worlds[world], **settings)
        check_env(direct, skip_render_check=True)  # which would want a spec, that only gym.make gives
        picture = env_render_passive_checker(direct)
        assert picture.shape == (16, 16, 3) and picture.any()


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("world", WORLDS)
def test_the_checker_of_stable_baselines_only_wants_larger_images(worlds, world, observation):
    """Its CNN takes images from 36x36 pixels on, these have 16x16; the next test shows a larger one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = DreamEnv(worlds[world], observation=observation, render_mode="rgb_array", **FAST)
        sb3_check_env(env, warn=True, skip_render_check=False)
    said = {str(warning.message).split(" is 36x36")[0] for warning in caught}
    assert said == (set() if observation == "memory" else {"The minimal resolution for an image"})


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_the_checker_of_stable_baselines_finds_nothing_at_56x56(checkpoint, observation):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = DreamEnv(checkpoint, observation=observation, render_mode="rgb_array", **FAST)
        sb3_check_env(env, warn=True, skip_render_check=False)


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("world", WORLDS)
def test_only_arrays_and_python_scalars_are_returned(worlds, world, observation):
    settings = {**FAST, "observation": observation, "horizon": 2}
    env = DreamEnv(worlds[world], **settings)
    for returned in play(env, 3):
        assert returned[0] in env.observation_space
        assert all(type(leaf) in (np.ndarray, int, float, bool) for leaf in leaves(returned))
        if len(returned) == 5:
            assert [type(part) for part in returned[1:4]] == [float, bool, bool]
            assert type(returned[4]["terminated_probability"]) is float
            assert ("vector" in returned[4]) == (world in ("told", "hidden"))
        else:
            assert type(returned[1]["context_episode"]) is int
    for mode in MODES:
        envs = DreamVectorEnv(worlds[world], 2, autoreset_mode=mode, **settings)
        played = play(envs, 3)
        assert any(returned[3].any() for returned in played if len(returned) == 5)
        for returned in played:
            assert returned[0] in envs.observation_space
            assert all(type(leaf) in (np.ndarray, type(None)) for leaf in leaves(returned))
            if len(returned) == 5:
                assert [(part.shape, part.dtype) for part in returned[1:4]] == [
                    ((2,), np.float32), ((2,), np.bool_), ((2,), np.bool_)
                ]  # fmt: skip
            info = returned[-1]
            assert all(info[f"_{name}"].dtype == bool for name in info if not name.startswith("_"))


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_what_was_returned_is_the_callers(worlds, observation):
    """Later steps leave it alone, and writing into it changes nothing."""
    settings = {**FAST, "observation": observation, "horizon": 2, "render_mode": "rgb_array"}
    settings["render_memory"] = observation == "both"
    makes = [lambda: DreamEnv(worlds["told"], **settings)]
    makes += [lambda mode=mode: DreamVectorEnv(worlds["told"], 2, autoreset_mode=mode, **settings) for mode in MODES]
    for make in makes:
        env = make()
        played = play(env, 3)
        kept = copy.deepcopy(played)
        play(env, 3, None)
        assert_same(played, kept)
        assert_same(_overwriting(make(), 3, True), _overwriting(make(), 3, False))


def _overwriting(env: Any, steps: int, overwrite: bool) -> list[Any]:
    """Copies of all that was returned, which is then overwritten, and so is what was given; or neither is."""
    copies: list[Any] = []

    def look() -> list[Any]:
        state = env.get_state(*() if isinstance(env, gym.Env) else (0,))
        return [env.render(), state.frame, state.noise, state.np_random]

    def note(value: Any) -> None:
        seen = [value, *look()]
        copies.append(copy.deepcopy(seen))
        for leaf in leaves(seen) if overwrite else ():
            if isinstance(leaf, np.ndarray):
                leaf[...] = leaf.dtype != bool
        seen[-1]["state"]["state"] *= not overwrite
        copies.append(copy.deepcopy(look()))

    env.action_space.seed(0)
    note(env.reset(seed=0))
    for _ in range(steps):
        action = env.action_space.sample()
        note(env.step(action))
        _, _, terminated, truncated, _ = copies[-2][0]
        ended = np.logical_or(terminated, truncated)
        if overwrite and isinstance(action, np.ndarray):
            action[...] = 0
        if ended.any() and isinstance(env, gym.Env):
            note(env.reset())
        elif ended.any() and env.metadata["autoreset_mode"] == AutoresetMode.DISABLED:
            given = ended.copy()
            note(env.reset(options={"reset_mask": given}))
            assert np.array_equal(given, ended)
            if overwrite:
                given[...] = False
    return copies


def test_a_given_context_stays_the_callers(worlds):
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    actions = np.array([[0.5, -0.5], [1, 0]])
    seen = []
    for write in (False, True):
        for env in (DreamEnv(worlds["box"], **FAST), DreamVectorEnv(worlds["box"], 2, **FAST)):
            context = frames.copy(), actions.copy()
            first = env.reset(seed=0, options={"context": context})
            if write:
                context[0][...], context[1][...] = 0, 0
            seen.append((first, env.step(np.zeros(env.action_space.shape))))
    assert_same(seen[0], seen[2])
    assert_same(seen[1], seen[3])


@pytest.mark.parametrize("world", WORLDS)
def test_pictures(worlds, world):
    for render_memory, width in ((False, 16), (True, 32)):
        settings = {**FAST, "render_memory": render_memory}
        env = DreamEnv(worlds[world], render_mode="rgb_array", **settings)
        envs = DreamVectorEnv(worlds[world], 2, render_mode="rgb_array", **settings)
        frame, frames = play(env, 2)[-1][0], play(envs, 2)[-1][0]
        pictures = envs.render()
        assert type(pictures) is tuple and len(pictures) == 2
        assert {(p.shape, p.dtype) for p in (env.render(), *pictures)} == {((16, width, 3), np.dtype(np.uint8))}
        # The channel of a grey frame stands in all three.
        assert (env.render()[:, :16] == frame).all() and (np.stack(pictures)[:, :, :16] == frames).all()
        if render_memory:
            heat = heat_map(env.model, env.get_state().memory)[0]
            assert (env.render()[:, 16:] == heat).all() and heat.any()
        assert DreamEnv(worlds[world], **settings).render() is None
        assert DreamVectorEnv(worlds[world], 2, **settings).render() is None


def test_a_model_without_blocks_has_no_memory_to_show(tmp_path):
    window = save_checkpoint(tmp_path, "discrete", kind="window")
    for make in (DreamEnv, DreamVectorEnv):
        with pytest.raises(ValueError, match="kind 'window' has no block states .* leave render_memory out"):
            make(window, render_mode="rgb_array", render_memory=True)
    env = DreamEnv(window, render_mode="rgb_array", **FAST)
    play(env, 1)
    assert env.render().shape == (16, 16, 3)


def test_closing_twice_does_no_harm_and_a_closed_dream_can_be_reset(worlds):
    for env in (
        gym.make("lssvwm/Dream-v0", checkpoint=worlds["discrete"], **FAST),
        gym.make_vec("lssvwm/Dream-v0", 2, checkpoint=worlds["discrete"], **FAST),
    ):
        before = play(env, 3)
        env.close()
        env.close()
        assert_same(play(env, 3), before)
    untouched = DreamEnv(worlds["discrete"])
    untouched.close()
    untouched.close()


@pytest.fixture
def my_maze(worlds):
    """An id of its own, gone afterwards."""
    name = "lssvwm/MyMaze-v0"
    register_checkpoint(name, worlds["multi_discrete"], denoise_steps=2, context_length=2)
    yield name
    del gym.registry[name]


def test_a_spec_survives_json_and_pickle(worlds, my_maze):
    settings = {"checkpoint": worlds["multi_discrete"], "denoise_steps": 2, "context_length": 2}
    wanted = play(DreamEnv(**settings), 3)
    batch = play(DreamVectorEnv(num_envs=2, autoreset_mode="SameStep", **settings), 3)
    for name, kwargs in (("lssvwm/Dream-v0", settings), (my_maze, {})):
        made = gym.make(name, **kwargs)
        assert_same(play(made, 3), wanted)
        vector = gym.make_vec(name, 2, autoreset_mode="SameStep", **kwargs)
        assert vector.unwrapped.autoreset_mode == AutoresetMode.SAME_STEP
        for spec in (made.spec, vector.spec, gym.spec(name)):
            assert EnvSpec.from_json(spec.to_json()) == spec == pickle.loads(pickle.dumps(spec))
        assert_same(play(gym.make(EnvSpec.from_json(made.spec.to_json())), 3), wanted)
        again = gym.make_vec(EnvSpec.from_json(vector.spec.to_json()))
        assert isinstance(again, DreamVectorEnv)
        assert_same(play(again, 3), batch)


def test_a_registered_folder_is_found_from_another_folder(worlds, monkeypatch, tmp_path):
    folder = Path(worlds["discrete"])
    monkeypatch.chdir(folder.parent)
    register_checkpoint("lssvwm/Nearby-v0", folder.name)
    try:
        monkeypatch.chdir(tmp_path)
        assert_same(play(gym.make("lssvwm/Nearby-v0", **FAST), 2), play(DreamEnv(str(folder), **FAST), 2))
    finally:
        del gym.registry["lssvwm/Nearby-v0"]


@pytest.mark.parametrize("world", ["told", "box"])
def test_copies_go_on_alike_and_apart(worlds, world):
    settings = {**FAST, "horizon": 6}
    for env in (DreamEnv(worlds[world], **settings), DreamVectorEnv(worlds[world], 2, **settings)):
        rows = () if isinstance(env, gym.Env) else (1,)
        play(env, 2)
        state = env.get_state(*rows)
        clone, same = copy.deepcopy(env), copy.deepcopy(state)
        assert clone.model is env.model
        first = play(clone, 9, None)
        assert_same(env.get_state(*rows).frame, state.frame)
        assert_same(play(env, 9, None), first)  # across an end and the drawing of new contexts
        after = []
        for each in (state, same, state):
            env.set_state(*rows, each)
            env.action_space.seed(5)
            steps = [env.step(env.action_space.sample())[0] for _ in range(3)]
            drawn = [env.reset()[1]["context_episode"] for _ in range(6)]
            after.append([part[1] if rows else part for part in (*steps, *drawn)])  # only that row was restored
            if each is same:
                for leaf in (same.frame, same.noise, *same.memory.tensors().values()):
                    leaf[...] = 0  # shares nothing with the original
        assert_same(after[0], after[1])
        assert_same(after[0], after[2])


PLAY = """
import sys
import numpy as np, pygame
import gymnasium as gym
from gymnasium.utils.play import play
pygame.init()
keys, actions, frames, alone = [pygame.K_a, pygame.K_d, None, pygame.K_d], [], [], []
settings = dict(checkpoint=sys.argv[1], denoise_steps=1)
twin = gym.make("lssvwm_envs:lssvwm/Dream-v0", **settings)
twin.reset(seed=3)

def see(before, after, action, reward, terminated, truncated, info):
    actions.append(action)
    frames.append(after)
    alone.append(twin.step(action)[0])
    down = keys[len(actions) - 2] if len(actions) > 1 else None
    if down is not None:
        pygame.event.post(pygame.event.Event(pygame.KEYUP, key=down))
    if len(actions) > len(keys):
        pygame.event.post(pygame.event.Event(pygame.QUIT))
    elif keys[len(actions) - 1] is not None:
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=keys[len(actions) - 1]))

env = gym.make("lssvwm_envs:lssvwm/Dream-v0", render_mode="rgb_array", **settings)
play(env, callback=see, keys_to_action={"a": 1, "d": 2}, seed=3, noop=0, fps=1000, zoom=4)
assert actions == [0, 1, 2, 0, 2], actions
assert all(frame.shape == (16, 16, 3) and frame.dtype == np.uint8 for frame in frames)
assert np.array_equal(frames, alone) and len({frame.tobytes() for frame in frames}) == 5
"""


def test_people_play_it(worlds):
    """In another process: Gymnasium's player wants a display and sets matplotlib's backend."""
    environment = {**os.environ, "SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
    command = [sys.executable, "-c", PLAY, worlds["discrete"]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
