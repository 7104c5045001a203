"""Memory beside real environments: what a wrapper says is what the model reads, in every form and autoreset mode."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.dream.vector import DreamVectorEnv
from lssvwm_envs.make import make_image_env
from lssvwm_envs.rows import row_of
from lssvwm_envs.sb3 import GymVecEnv
from lssvwm_envs.wrappers import MemoryObservation, VectorMemoryObservation
from lssvwm_rl.model.world_model import WorldModel
from support.fp64 import ONCE_ROUNDED, fp64_models
from support.programs import PROGRAMS, Op, bits, check_program, programs, seed_of
from support.small_models import BACKBONE, untrained_checkpoint

MODES = list(AutoresetMode)
LONGEST = 6
# The order of the checkpoint, which is not that of a Dict's keys.
TOLD = {"place": 2, "angle": 1}


class Noisy(gym.Env):
    """Frames, numbers, rewards and ends are all drawn; `told` are the keys beside the image."""

    action_space = spaces.Discrete(4)

    def __init__(self, told: tuple[str, ...] = tuple(TOLD)):
        image = spaces.Box(0, 255, (8, 8, 3), np.uint8)
        numbers = {key: spaces.Box(-9, 9, (TOLD[key],), np.float32) for key in told}
        self.observation_space = spaces.Dict({"image": image, **numbers}) if told else image
        self.told, self.steps = told, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {"steps": 0}

    def step(self, action):
        self.steps += 1
        ended = bool(self.np_random.random() < 0.15)
        reward = float(self.np_random.random()) + int(action)
        return self._observe(), reward, ended, self.steps >= LONGEST, {"steps": self.steps}

    def _observe(self):
        image = self.np_random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        numbers = {key: self.np_random.standard_normal(TOLD[key]).astype(np.float32) for key in self.told}
        return {"image": image, **numbers} if self.told else image


def examples(n: int):
    return settings(max_examples=n, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> str:
    """A checkpoint with vectors, of which it predicts small ones: random weights would amplify their rounding."""
    torch.set_num_threads(1)
    folder = untrained_checkpoint(tmp_path_factory.mktemp("told"), TOLD, backbone=replace(BACKBONE, blocks=(1, 2)))
    model = WorldModel.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.vector_head[-1].parameters():
            parameter *= 0.01
    model.save_pretrained(folder)
    return folder


class Beside:
    """Episodes as single wrappers and the model itself know them, a row each."""

    def __init__(self, checkpoint: str, n: int, kind: Any, keys: tuple[str, ...]):
        self.model, self.kind, self.keys = shared_engine(checkpoint).model, kind, keys
        self.real = [Noisy(keys) for _ in range(n)]
        self.wrapped = [MemoryObservation(Noisy(keys), checkpoint, kind) for _ in range(n)]
        self.memories = [self.model.initial_memory(1)] * n

    def reset(self, i: int, seed: int | None) -> Any:
        self.memories[i] = self.model.initial_memory(1)
        (real, info), (observation, told) = (env.reset(seed=seed) for env in (self.real[i], self.wrapped[i]))
        assert info == told
        return self._check(i, 0, real, observation)

    def step(self, i: int, action: int) -> tuple[Any, float, bool, bool]:
        (real, *rest), (observation, *others) = (env.step(action) for env in (self.real[i], self.wrapped[i]))
        assert rest == others
        return self._check(i, action, real, observation), *rest[:3]

    def _check(self, i: int, action: int, real: Any, observation: Any) -> Any:
        """What the wrapper says is what the model reads, with the vectors if it is told all of them."""
        assert self.wrapped[i].observation_space.contains(observation)
        image = real["image"] if self.keys else real
        inputs = self.memories[i], torch.from_numpy(image)[None, None], torch.tensor([[action]])
        memory, _ = self.model.observe(*inputs)
        if self.keys == tuple(TOLD):
            vectors = torch.from_numpy(np.concatenate([real[key] for key in TOLD]))[None, None]
            told, _ = self.model.observe(*inputs, vectors)
            assert (memory.features - told.features).abs().max() > 1e-2
            memory = told
        self.memories[i], readout = memory, memory.readout()[0].float().numpy()
        wanted = readout if self.kind == "memory" else {"image": image, "memory": readout}
        assert bits(observation) == bits(wanted)
        return observation


def assert_close(a: Any, b: Any):
    if isinstance(a, dict):
        assert a.keys() == b.keys() and np.array_equal(a["image"], b["image"])
        a, b = a["memory"], b["memory"]
    np.testing.assert_allclose(a, b, rtol=0, atol=ONCE_ROUNDED)


@pytest.mark.parametrize("mode", MODES)
@examples(6)
@given(
    program=programs(["step"] * 5 + ["reset"], 3, 12, 20),
    n=st.integers(1, 3),
    kind=st.sampled_from(["memory", "both"]),
    keys=st.sampled_from([(), ("place",), tuple(TOLD)]),
)
@fp64_models()
def test_rows_say_what_single_wrappers_say_and_the_model_reads(told, mode, program, n, kind, keys):
    envs = VectorMemoryObservation(SyncVectorEnv([lambda: Noisy(keys)] * n, autoreset_mode=mode), told, kind)
    singles = Beside(told, n, kind, keys)
    ended = np.zeros(n, bool)

    def reset(mask: np.ndarray, seed: int | None):
        nonlocal ended
        observation, info = envs.reset(seed=seed, options=None if mask.all() else {"reset_mask": mask.copy()})
        for i in range(n):
            if mask[i]:
                last[i] = singles.reset(i, None if seed is None else seed + i)
            assert_close(row_of(observation, i), last[i])
        ended = ended & ~mask
        assert np.array_equal(info["_steps"], mask)

    last: list[Any] = [None] * n
    reset(np.ones(n, bool), 3)
    for op, a, b, c in program:
        mask = np.array([bool(b >> i & 1) for i in range(n)])
        if op == "reset" and mask.any():
            reset(mask, c if c % 2 else None)
            continue
        if mode == AutoresetMode.DISABLED and ended.any():
            reset(ended, None)
        actions = np.array([(a + i * b) % 4 for i in range(n)])
        observation, rewards, terminated, truncated, info = envs.step(actions)
        now_ended = (terminated | truncated) & (mode != AutoresetMode.SAME_STEP)
        for i in range(n):
            if ended[i]:
                last[i] = singles.reset(i, None)
                assert (rewards[i], terminated[i], truncated[i]) == (0, False, False)
            else:
                last[i], *rest = singles.step(i, int(actions[i]))
                assert rest == [rewards[i], terminated[i], truncated[i]]
                finished = mode == AutoresetMode.SAME_STEP and (terminated[i] or truncated[i])
                assert finished == ("final_obs" in info and info["final_obs"][i] is not None)
                if finished:
                    assert info["_final_obs"][i]
                    assert_close(info["final_obs"][i], last[i])
                    last[i] = singles.reset(i, None)
            assert_close(row_of(observation, i), last[i])
        ended = now_ended
        state = envs.get_state()
        assert state.memory.frames.tolist() == [env.steps + 1 for env in singles.real], "one frame per real step"
        assert np.array_equal(state.ended, ended & (mode == AutoresetMode.NEXT_STEP))
        assert envs.observation_space.contains(observation)


@pytest.mark.parametrize("kind", ["memory", "both"])
def test_spaces_are_those_of_the_dream(told, kind):
    single = MemoryObservation(Noisy(), told, kind)
    vector = VectorMemoryObservation(SyncVectorEnv([Noisy] * 3), told, kind)
    dream, dreams = DreamEnv(told, observation=kind), DreamVectorEnv(told, 3, observation=kind)
    assert single.observation_space == vector.single_observation_space == dream.observation_space
    assert vector.single_observation_space == dreams.single_observation_space
    assert vector.observation_space == dreams.observation_space
    assert single.action_space == dream.action_space and vector.action_space == dreams.action_space


class RealPlayer:
    """Programs on MiniGrid with a memory beside it."""

    ways = 2

    def __init__(self, checkpoint: str):
        self.checkpoint = checkpoint

    def make(self) -> Any:
        return MemoryObservation(make_real(), self.checkpoint, "both")

    def play(self, env: Any, op: Op, ended: Any) -> tuple[Any, Any]:
        if op[0] == "reset" or ended:
            return env.reset(seed=seed_of(op) if op[0] == "reset" else None), False
        result = env.step(op[1] % 3)
        return result, result[2] or result[3]

    def keep(self, env: Any) -> Any:
        return env.get_state()

    def restore(self, env: Any, state: Any, way: int) -> tuple[Any, Any]:
        env = self.make() if way else env
        env.set_state(state)
        return env, None


class RealVectorPlayer(RealPlayer):
    """The same of two rows, some of whose resets are masked."""

    def __init__(self, checkpoint: str, mode: AutoresetMode):
        super().__init__(checkpoint)
        self.mode = mode

    def make(self) -> Any:
        envs = SyncVectorEnv([make_real] * 2, autoreset_mode=self.mode, copy=False)
        return VectorMemoryObservation(envs, self.checkpoint, "both")

    def play(self, env: Any, op: Op, ended: Any) -> tuple[Any, Any]:
        if op[0] == "reset":
            mask = np.array([True, True] if ended is None or seed_of(op) else [op[2] % 2 == 0, op[2] % 2 == 1])
            options = None if mask.all() else {"reset_mask": mask}
            return env.reset(seed=seed_of(op), options=options), np.zeros(2, bool) if ended is None else ended & ~mask
        began = (
            env.reset(options={"reset_mask": ended})[1] if self.mode == AutoresetMode.DISABLED and ended.any() else {}
        )
        result = env.step(np.array([op[1] % 3, op[2] % 3]))
        return (*result, began), result[2] | result[3]


def make_real() -> gym.Env:
    return make_image_env("MiniGrid-MemoryS7-v0", max_steps=5)


@examples(6)
@given(program=PROGRAMS)
def test_a_restored_episode_goes_on_as_its_history_says(checkpoint, program):
    check_program(RealPlayer(checkpoint), program)


@pytest.mark.parametrize("mode", MODES)
@examples(5)
@given(program=PROGRAMS)
def test_restored_rows_go_on_as_their_history_says(checkpoint, mode, program):
    check_program(RealVectorPlayer(checkpoint, mode), program)


def test_a_kept_state_does_not_change_later(told):
    """Though the frames that the environments give are one buffer."""
    envs = VectorMemoryObservation(SyncVectorEnv([Noisy] * 2, copy=False), told, "both")
    envs.reset(seed=0)
    observation, *_ = envs.step(np.zeros(2, np.int64))
    state = envs.get_state()
    envs.step(np.zeros(2, np.int64))
    envs.set_state(state)
    again, _ = envs.reset(options={"reset_mask": np.array([True, False])})
    assert bits(row_of(again, 1)) == bits(row_of(observation, 1))


def test_another_vector_of_the_same_kind_does_not_change_the_autoreset_mode(told):
    """Gymnasium's metadata is one dict of the whole class of single environments."""
    modes = [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP]
    first, _ = [SyncVectorEnv([Noisy] * 2, autoreset_mode=mode) for mode in modes]
    assert VectorMemoryObservation(first, told).autoreset_mode == AutoresetMode.SAME_STEP
    assert GymVecEnv(first).num_envs == 2
