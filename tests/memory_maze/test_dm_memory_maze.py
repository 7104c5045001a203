"""The published Memory Maze through Gymnasium is the package's own, frame by frame."""

from __future__ import annotations

import ctypes.util
import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env

from lssvwm_envs.dm_memory_maze import SIZES, DMMemoryMaze, _tasks, _with_border

pytestmark = pytest.mark.memory_maze

ROOT = Path(__file__).parents[2]
INFO = {
    "agent_pos": ((2,), np.float32),
    "agent_dir": ((2,), np.float32),
    "targets_pos": ((3, 2), np.float32),
    "target_color": ((3,), np.float32),
    "maze_layout": ((9, 9), np.uint8),
    "pose": ((4,), np.float32),
}
EPISODE = """
import hashlib
from lssvwm_envs.dm_memory_maze import DMMemoryMaze
env = DMMemoryMaze()
frame, _ = env.reset(seed=5)
digest = hashlib.sha256(frame)
for action in (1, 4, 5, 2, 3, 0, 1, 1):
    digest.update(env.step(action)[0])
env.close()
"""


def env_id(size: int) -> str:
    name = f"lssvwm/DMMemoryMaze-{size}x{size}-v0"
    if name not in gym.registry:
        gym.register(name, "lssvwm_envs.dm_memory_maze:DMMemoryMaze", kwargs={"size": size})
    return name


@pytest.fixture(scope="module")
def env():
    env = gym.make(env_id(9), render_mode="rgb_array")
    yield env.unwrapped
    env.close()


def play(env: DMMemoryMaze, seed: int | None) -> str:
    """Digest of the frames of the episode in EPISODE."""
    frame, _ = env.reset(seed=seed)
    digest = hashlib.sha256(frame)
    for action in (1, 4, 5, 2, 3, 0, 1, 1):
        digest.update(env.step(action)[0])
    return digest.hexdigest()


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    path = os.pathsep.join([str(ROOT), str(ROOT / "envs")])
    return subprocess.run(
        [sys.executable, "-c", code], env={**kept, "PYTHONPATH": path, **environment}, capture_output=True, text=True
    )


def test_it_is_an_environment_without_warnings(env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)


@pytest.mark.parametrize("size, targets, steps", [(9, 3, 1000), (15, 6, 4000)])
def test_shapes_and_the_end(size, targets, steps):
    with gym.make(env_id(size)) as env:
        assert env.observation_space.shape == (64, 64, 3) and env.action_space == gym.spaces.Discrete(6)
        _, info = env.reset(seed=1)
        assert info["targets_pos"].shape == (targets, 2) and info["maze_layout"].shape == (size, size)
        env.unwrapped._env.physics.data.time = (steps - 2) / 4
        _, reward, terminated, truncated, _ = env.step(1)
        assert isinstance(reward, float) and not terminated and not truncated
        _, _, terminated, truncated, _ = env.step(1)
        assert truncated and not terminated
        with pytest.raises(ResetNeeded, match="call reset"):
            env.unwrapped.step(1)


def test_what_info_says_is_where_the_agent_is(env):
    _, info = env.reset(seed=2)
    assert {name: (value.shape, value.dtype) for name, value in info.items()} == {
        name: (shape, np.dtype(dtype)) for name, (shape, dtype) in INFO.items()
    }
    np.testing.assert_allclose(info["pose"], [*info["agent_pos"] / 9, *info["agent_dir"]], rtol=1e-6)
    assert np.linalg.norm(info["agent_dir"]) == pytest.approx(1)
    column, row = info["agent_pos"].astype(int)
    assert info["maze_layout"][row, column] == 1
    angles = [np.arctan2(*env.step(action)[4]["agent_dir"][::-1]) for action in (0, 2, 0, 3, 3)]
    turns = np.sin(np.diff(angles))
    assert turns[0] > 0.1 and turns[3] < -0.1, "2 turns left, 3 right"
    before, after = env.step(0)[4], env.step(1)[4]
    assert (after["agent_pos"] - before["agent_pos"]) @ before["agent_dir"] > 0


def test_a_seed_gives_the_same_bytes_after_other_episodes_and_in_another_process(env):
    first = play(env, 5)
    assert env.np_random_seed == 5
    following = [play(env, None), play(env, None)]
    assert len({first, *following}) == 3
    assert play(env, 5) == first
    assert [play(env, None), play(env, None)] == following
    other = python(EPISODE + "print(digest.hexdigest())", MUJOCO_GL=os.environ["MUJOCO_GL"])
    assert other.stdout.strip() == first, other.stderr
    assert other.stderr == ""


def test_it_is_the_package_frame_by_frame(env):
    """Its border, mazes, rewards and contacts; the package's own first episode of a seed is the one this seed gives."""
    theirs = _tasks().memory_maze_9x9(global_observables=True, seed=11)
    seen = theirs.reset()
    env.reset(seed=0)
    env._reseed(11)
    frame, info = env._observe(env._env.reset().observation)
    actions = np.random.default_rng(0).choice([0, 1, 1, 1, 2, 3, 4, 5], 40)
    for action in actions:
        assert (frame == seen.observation["image"]).all()
        np.testing.assert_allclose(info["targets_pos"], seen.observation["targets_pos"], rtol=1e-6)
        assert (info["maze_layout"] == seen.observation["maze_layout"]).all()
        seen = theirs.step(action)
        frame, reward, _, _, info = env.step(action)
        assert reward == seen.reward
    theirs.close()


def test_touching_the_wanted_ball_gives_the_reward_once(env):
    _, info = env.reset(seed=3)
    task = env._env.task
    wanted = task._current_target_ix
    others = [i for i in range(3) if i != wanted]
    rewards = []
    for index in (others[0], wanted, wanted):  # the last is not wanted any more
        way = 2.0 * (info["targets_pos"][index] - info["agent_pos"])  # cells are two metres wide
        env._env.physics.bind(task._walker._root_joints[:2]).qpos += way
        frame, reward, _, _, info = env.step(0)
        rewards.append(reward)
    assert rewards == [0.0, 1.0, 0.0]
    assert task._current_target_ix != wanted
    assert (frame[0, 0] == (info["target_color"] * 255 * 0.7).astype(np.uint8)).all()


def test_rendering_and_closing():
    env = DMMemoryMaze(image_size=32, render_mode="rgb_array")
    with pytest.raises(ResetNeeded, match="no frame yet"):
        env.render()
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(0)
    frame, _ = env.reset(seed=0)
    rendered = env.render()
    assert frame.shape == (32, 32, 3) and (rendered == frame).all() and rendered is not frame
    assert len(np.unique(frame[1:-1, 1:-1].reshape(-1, 3), axis=0)) > 20, "small images show more than the border"
    frame = env.step(2)[0]
    assert (env.render() == frame).all() and not (rendered == frame).all()
    with pytest.raises(InvalidAction, match="6 is not one of 0 to 5"):
        env.step(6)
    env.close()
    env.close()
    with pytest.raises(ClosedEnvironmentError, match="closed"):
        env.reset()


def test_the_border_is_as_wide_as_the_packages():
    image = np.zeros((256, 256, 3), np.uint8)
    inside = (_with_border(image, np.ones(3)) == 0).all(2)
    assert inside.sum() == (256 - 8) ** 2
    assert (_with_border(image, np.ones(3))[0, 0] == 178).all()


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"size": 10}, "no published Memory Maze of size 10; choose 9, 11, 13 or 15"),
        ({"image_size": 8}, "16 to 480 pixels, got 8"),
        ({"image_size": 481}, "16 to 480 pixels, got 481"),
    ],
)
def test_bad_sizes_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        DMMemoryMaze(**arguments)


def test_every_size_has_an_id():
    assert SIZES == (9, 11, 13, 15)
    for size in SIZES:
        assert gym.spec(env_id(size)).kwargs == {"size": size}


BACKEND = EPISODE + "import os; from dm_control import _render; print(os.environ['MUJOCO_GL'], _render.BACKEND)"
needs_osmesa = pytest.mark.skipif(ctypes.util.find_library("OSMesa") is None, reason="libosmesa6 is not installed")


@needs_osmesa
def test_mujoco_gl_is_respected():
    assert python(BACKEND, MUJOCO_GL="osmesa").stdout.split() == ["osmesa", "osmesa"]


@needs_osmesa
def test_osmesa_draws_where_egl_does_not():
    # PyOpenGL, told to use this one, cannot use EGL.
    assert python(BACKEND, PYOPENGL_PLATFORM="osmesa").stdout.split() == ["osmesa", "osmesa"]


@pytest.mark.parametrize("backend", ["off", "bogus"])
def test_without_a_working_opengl_the_error_says_what_to_install(backend):
    done = python("from lssvwm_envs.dm_memory_maze import DMMemoryMaze; DMMemoryMaze()", MUJOCO_GL=backend)
    assert "DependencyNotInstalled: MuJoCo cannot render with MUJOCO_GL=" in done.stderr
    assert "make setup-memory-maze" in done.stderr and "libegl1, libgl1-mesa-dri, libosmesa6" in done.stderr


@pytest.mark.parametrize("blocked", ["memory_maze", "dm_control"])
def test_without_the_extra_the_error_says_how_to_install_it(blocked):
    code = f"""
import sys
sys.modules[{blocked!r}] = None
from lssvwm_envs.dm_memory_maze import DMMemoryMaze
DMMemoryMaze()
"""
    done = python(code)
    assert "DependencyNotInstalled: The published Memory Maze needs an extra" in done.stderr
    assert 'pip install "lssvwm-rl[memory-maze]"' in done.stderr
