"""States of dreams of which one part cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from lssvwm_envs.dream.state import DreamState
from lssvwm_rl.model.memory import Memory
from support.programs import bits


def with_tensor(state: DreamState, name: str, change: Callable[[Tensor], Tensor]) -> DreamState:
    tensors = state.memory.tensors()
    return replace(state, memory=Memory.from_tensors({**tensors, name: change(tensors[name].clone())}))


def filled(value: float) -> Callable[[Tensor], Tensor]:
    def fill(tensor: Tensor) -> Tensor:
        tensor.view(-1)[-1] = value
        return tensor

    return fill


def whole(state: DreamState) -> Any:
    """A value that is equal only for states that are equal bit for bit."""
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
        "memory in fp64": (with_tensor(state, part, Tensor.double), rf"{part} .*float64 instead of"),
        "memory of another size": (with_tensor(state, "features", lambda t: t[:, 1:]), "features of its memory is"),
        "frames below 0": (with_tensor(state, "frames", filled(-1)), "has seen -1 frames"),
        "a layer less": (
            replace(state, memory=replace(state.memory, layers=state.memory.layers[:-1])),
            "has the parts",
        ),
    }
