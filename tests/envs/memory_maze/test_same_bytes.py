"""Seeds: one environment, Gymnasium's vector of them and the native vector play the same episodes, byte for byte."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from lssvwm_envs.memory_maze.env import MemoryMazeEnv
from lssvwm_envs.memory_maze.vector import MemoryMazeVectorEnv

N, STEPS, SEED = 3, 12, 40
SETTINGS: dict[str, Any] = {"size": 7, "image_size": 16, "max_steps": STEPS}


def assert_same(a: Any, b: Any, rows: np.ndarray, at: str):
    """Dicts and arrays whose first axis is that of the environments, compared in `rows`, with dtypes and keys."""
    assert type(a) is type(b), at
    if isinstance(a, dict):
        assert a.keys() == b.keys(), at
        for key in a:
            # As Gymnasium fills them in: what is inside final_info means something only where an episode ended.
            inside = rows & a["_" + key] if key == "final_info" else rows
            assert_same(a[key], b[key], inside, f"{at}, {key}")
    elif a.dtype == object:
        for i in np.flatnonzero(rows):
            assert (a[i] is None) == (b[i] is None), at
            if a[i] is not None:
                one = [{k: v[None] for k, v in x.items()} if isinstance(x, dict) else x[None] for x in (a[i], b[i])]
                assert_same(*one, np.ones(1, bool), at)
    else:
        assert a.dtype == b.dtype and a.shape == b.shape, f"{at}: {a.dtype} {a.shape}, {b.dtype} {b.shape}"
        assert np.array_equal(a[rows], b[rows]), at


@pytest.mark.parametrize("extra_obs", [False, True])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_native_vector_gives_what_gymnasiums_gives(mode, extra_obs):
    settings = {**SETTINGS, "extra_obs": extra_obs}
    native = MemoryMazeVectorEnv(N, **settings, autoreset_mode=mode)
    reference = SyncVectorEnv([lambda: MemoryMazeEnv(**settings)] * N, autoreset_mode=mode)
    assert native.single_observation_space == reference.single_observation_space
    assert native.observation_space == reference.observation_space
    assert native.action_space == reference.action_space
    assert native.metadata["autoreset_mode"] == reference.metadata["autoreset_mode"] == mode
    rng, all_rows = np.random.default_rng(0), np.ones(N, bool)

    def assert_same_reset(at: str, mask: np.ndarray = all_rows, **kwargs):
        masked = [{"options": {"reset_mask": mask}} if mask is not all_rows else {} for _ in range(2)]
        (a, a_info), (b, b_info) = (
            env.reset(**kwargs, **options) for env, options in zip((native, reference), masked, strict=True)
        )
        assert_same(a, b, all_rows, at)
        assert_same(a_info, {**b_info, **{k: a_info[k] for k in a_info if k[0] == "_"}}, mask, at)

    assert_same_reset("first reset", seed=SEED)
    ends, ended = 0, np.zeros(N, bool)
    for step in range(4 * STEPS):
        at = f"step {step}"
        if step == 5:  # from here on episodes do not end together
            assert_same_reset(at, np.array([False, True, False]))
        if step == 9:
            assert_same_reset(at, np.array([True, True, False]), seed=[7, None, None])
        if mode == AutoresetMode.DISABLED and ended.any():
            assert_same_reset(at, ended)
        actions = rng.integers(0, 6, N)
        a, b = native.step(actions), reference.step(actions)
        for name, x, y in zip(("observation", "reward", "terminated", "truncated", "info"), a, b, strict=True):
            assert_same(x, y, all_rows, f"{at}, {name}")
        ended = a[3]
        ends += ended.sum()
        assert ended.sum() < N or step < 5
    assert ends > 2 * N


def episodes_of(mode: AutoresetMode) -> list[list[tuple[list[bytes], list[float]]]]:
    """For each row the frames and rewards of whole episodes; actions depend on the row, the episode and the step."""
    envs = MemoryMazeVectorEnv(N, **SETTINGS, autoreset_mode=mode)
    choices = np.random.default_rng(1).integers(0, 6, (N, 4, STEPS))
    frames, _ = envs.reset(seed=SEED)
    played = [[([frame.tobytes()], [])] for frame in frames]
    while min(len(rows) for rows in played) <= 3:
        steps = [len(rows[-1][1]) for rows in played]
        actions = np.array([choices[i, len(played[i]) - 1, steps[i] % STEPS] for i in range(N)])
        frames, rewards, _, truncated, info = envs.step(actions)
        for i in range(N):
            if steps[i] == STEPS:  # NextStep: this one was the reset
                played[i].append(([frames[i].tobytes()], []))
                continue
            last = info["final_obs"][i] if "final_obs" in info and truncated[i] else frames[i]
            played[i][-1][0].append(last.tobytes())
            played[i][-1][1].append(float(rewards[i]))
            if truncated[i] and mode == AutoresetMode.SAME_STEP:
                played[i].append(([frames[i].tobytes()], []))
        if mode == AutoresetMode.DISABLED and truncated.any():
            frames, _ = envs.reset(options={"reset_mask": truncated})
            for i in np.flatnonzero(truncated):
                played[i].append(([frames[i].tobytes()], []))
    return [rows[:3] for rows in played]


def test_all_ways_to_begin_anew_give_the_same_episodes():
    played = episodes_of(AutoresetMode.NEXT_STEP)
    assert played == episodes_of(AutoresetMode.SAME_STEP) == episodes_of(AutoresetMode.DISABLED)
    env = MemoryMazeEnv(**SETTINGS)
    choices = np.random.default_rng(1).integers(0, 6, (N, 4, STEPS))
    for i, row in enumerate(played):
        for e, (frames, rewards) in enumerate(row):
            frame, _ = env.reset(seed=SEED + i if e == 0 else None)
            assert frame.tobytes() == frames[0]
            for t, action in enumerate(choices[i, e]):
                frame, reward, _, truncated, _ = env.step(action)
                assert frame.tobytes() == frames[t + 1] and reward == rewards[t] and truncated == (t == STEPS - 1)


def test_ids_make_the_single_and_the_vector_form():
    settings = {"image_size": 16, "max_steps": 5}
    single = gym.make("lssvwm/MemoryMaze-9x9-v0", **settings)
    native = gym.make_vec("lssvwm/MemoryMaze-9x9-v0", 2, **settings)
    synchronous = gym.make_vec("lssvwm/MemoryMaze-9x9-v0", 2, vectorization_mode="sync", **settings)
    assert isinstance(single.unwrapped, MemoryMazeEnv) and isinstance(native.unwrapped, MemoryMazeVectorEnv)
    assert isinstance(synchronous.unwrapped, SyncVectorEnv)
    frame, frames, others = single.reset(seed=4)[0], native.reset(seed=3)[0], synchronous.reset(seed=3)[0]
    assert np.array_equal(frames, others) and np.array_equal(frame, frames[1])
    for action in (1, 2, 5, 1, 0, 3):  # the last one begins anew
        frames, rewards, *_, info = native.step(np.array([action, action]))
        others, _, _, _, other_info = synchronous.step(np.array([action, action]))
        assert np.array_equal(frames, others) and np.array_equal(info["pose"], other_info["pose"])


def test_other_seeds_and_later_episodes_have_other_mazes():
    env = MemoryMazeEnv(image_size=16)

    def maze(**kwargs) -> bytes:
        frame, info = env.reset(**kwargs)
        return b"".join(info[name].tobytes() for name in ("maze_layout", "targets_pos", "agent_pos")) + frame.tobytes()

    first = [maze(seed=0)] + [maze() for _ in range(5)]
    again = [maze(seed=0)] + [maze() for _ in range(5)]
    assert first == again
    seeds = [maze(seed=seed) for seed in range(200)]
    assert len({*first, *seeds}) == 205
    layouts = {env.reset(seed=seed)[1]["maze_layout"].tobytes() for seed in range(200)}
    assert len(layouts) == 200
    envs = MemoryMazeVectorEnv(8, image_size=16)  # never seeded: not all the same
    assert len({layout.tobytes() for layout in envs.reset()[1]["maze_layout"]}) == 8


def test_what_was_observed_does_not_change_later():
    for env in (MemoryMazeEnv(**SETTINGS, extra_obs=True), MemoryMazeVectorEnv(N, **SETTINGS, extra_obs=True)):
        observation, info = env.reset(seed=0)
        kept = {f"{key} {i}": (x[key], x[key].copy()) for i, x in enumerate((observation, info)) for key in x
                if isinstance(x[key], np.ndarray)}  # fmt: skip
        for _ in range(2 * STEPS - 1 if isinstance(env, MemoryMazeVectorEnv) else STEPS):
            env.step(np.full(env.action_space.shape, 4))
        env.reset()
        assert all(np.array_equal(*pair) for pair in kept.values())
