"""Everything in a state is checked before anything is changed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.state import DreamState
from lssvwm_envs.dream.vector import DreamVectorEnv
from lssvwm_rl.model.memory import Memory
from support.programs import bits


def with_tensor(state: DreamState, name: str, change) -> DreamState:
    tensors = state.memory.tensors()
    return replace(state, memory=Memory.from_tensors({**tensors, name: change(tensors[name].clone())}))


def filled(value):
    def fill(tensor):
        tensor.view(-1)[-1] = value
        return tensor

    return fill


def whole(state: DreamState):
    return bits({**vars(state), "memory": state.memory.tensors()})


def broken(state: DreamState) -> dict[str, tuple[DreamState, str]]:
    """What is wrong -> a state, and a part of the sentence."""
    noise, half = state.noise.copy(), dict(state.np_random)
    noise[:8] = 255
    del half["state"]
    part = next(name for name, tensor in state.memory.tensors().items() if tensor.numel())
    return {
        "frame of another size": (replace(state, frame=state.frame[:-1]), "its frame is"),
        "frame of floats": (replace(state, frame=state.frame / 255), "its frame is .* float64 instead of .* uint8"),
        "frame of a list": (replace(state, frame=state.frame.tolist()), "its frame is a list"),
        "steps below 0": (replace(state, steps=-1), "its steps are -1"),
        "steps beyond int64": (replace(state, steps=2**63), "its steps are 9223372036854775808"),
        "steps in part": (replace(state, steps=1.5), "its steps are 1.5"),
        "steps of a text": (replace(state, steps="3"), "its steps are '3'"),
        "an end that is none": (replace(state, ended="no"), "ended 'no'"),
        "noise of floats": (replace(state, noise=state.noise / 2), "its noise is no state"),
        "noise that is short": (replace(state, noise=state.noise[:-8]), "noise was not drawn on a device"),
        "noise of no generator": (replace(state, noise=np.full_like(noise, 255)), "its noise is no state"),
        "another generator": (replace(state, np_random={"bit_generator": "MT19937"}), "its np_random is no state"),
        "half a generator": (replace(state, np_random=half), "its np_random is no state of a PCG64"),
        "no generator": (replace(state, np_random=None), "its np_random is no state"),
        "NaN in the memory": (
            with_tensor(state, part, filled(float("nan"))),
            f"{part} of its memory is not fin",
        ),
        "infinite features": (
            with_tensor(state, "features", filled(float("inf"))),
            "features of its memory is not fin",
        ),
        "memory in fp64": (with_tensor(state, part, torch.Tensor.double), rf"{part} .*float64 instead of"),
        "memory of another size": (with_tensor(state, "features", lambda t: t[:, 1:]), "features of its memory is"),
        "frames below 0": (with_tensor(state, "frames", filled(-1)), "has seen -1 frames"),
        "a layer less": (
            replace(state, memory=replace(state.memory, layers=state.memory.layers[:-1])),
            "has the parts",
        ),
    }


@pytest.mark.parametrize("kind", ["block_ssm", "window", "causal"])
def test_states_with_a_broken_part_change_nothing(untrained, kind):
    checkpoint = untrained(kind)
    env, envs = DreamEnv(checkpoint, denoise_steps=1), DreamVectorEnv(checkpoint, 2, denoise_steps=1)
    for each, action in ((env, 1), (envs, [1, 2])):
        each.reset(seed=3)
        each.step(action)
    before = [whole(env.get_state()), *(whole(envs.get_state(row)) for row in range(2))]
    for what, (state, sentence) in broken(env.get_state()).items():
        attempts = [partial(env.set_state, state), partial(envs.set_state, 1, state), partial(envs.fork, state, seed=9)]
        attempts += [partial(each.reset, seed=5, options={"state": state}) for each in (env, envs)]
        for attempt in attempts:
            with pytest.raises(ValueError, match=sentence):
                attempt()
        after = [whole(env.get_state()), *(whole(envs.get_state(row)) for row in range(2))]
        assert after == before, what
    for each in (env, envs):
        each.reset(seed=5, options={"state": env.get_state()})
