"""What users give to dreams, checked before anything changes: options of a reset, contexts, states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from lssvwm_envs.dream.state import DreamState
from lssvwm_rl.data.store import Episode
from lssvwm_rl.model.config import WorldModelConfig, attention_reach
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.spaces import action_layout, space_from_json


def check_options(options: dict[str, Any] | None, known: Sequence[str]) -> dict[str, Any]:
    """The options of a reset.

    Raises:
        ValueError: if one is unknown.
    """
    for option in options or {}:
        if option not in known:
            raise ValueError(f"Option {option!r} is unknown; use {' or '.join(known)}.")
    return options or {}


def check_context(context: Any, config: WorldModelConfig) -> Episode:
    """Real frames (T, H, W, C) uint8, the actions (T-1[, A]) between them, and vectors (T, V) if the model has any.

    Raises:
        ValueError: if they do not fit the model.
    """
    parts = len(context) if isinstance(context, (tuple, list)) else 0
    if parts not in (2, 3):
        got = type(context).__name__ + (f" of {parts}" if parts else "")
        raise ValueError(f"A context must be (frames, actions) or (frames, actions, vectors), got a {got}.")
    frames = np.asarray(context[0])
    if frames.dtype != np.uint8 or frames.shape[1:] != config.frame_shape or len(frames) == 0:
        raise ValueError(
            f"Context frames of {frames.shape} {frames.dtype} do not fit; give T frames of {config.frame_shape} uint8."
        )
    actions = _context_actions(context[1], len(frames), space_from_json(config.action_space))
    vectors = _context_vectors(context[2], len(frames), config.vector_size) if parts == 3 else None
    none = np.zeros(len(actions), np.float32)
    return Episode(frames, actions, none, terminated=False, truncated=False, vectors=vectors)


def check_parts(state: DreamState, model: WorldModel, noise: torch.Generator, generator: np.random.Generator) -> None:
    """Check a state before any of it is taken over.

    Args:
        model: that its memory belongs to.
        noise, generator: of a row that could go on from it; they are not changed.

    Raises:
        ValueError: if its frame, its steps, its memory, or a state of its generators is not what a dream can have.
    """
    frame, shape = state.frame, model.config.frame_shape
    if not isinstance(frame, np.ndarray) or frame.shape != tuple(shape) or frame.dtype != np.uint8:
        got = f"{frame.shape} {frame.dtype}" if isinstance(frame, np.ndarray) else f"a {type(frame).__name__}"
        raise _unfit(f"its frame is {got} instead of {tuple(shape)} uint8")
    if not _is_whole(state.steps) or not 0 <= state.steps < 2**62:
        raise _unfit(f"its steps are {state.steps!r} instead of a whole number of at least 0")
    if not isinstance(state.ended, (bool, np.bool_)):
        raise _unfit(f"it has ended {state.ended!r} instead of True or False")
    _check_memory(state.memory, model)
    given = state.noise
    if not isinstance(given, np.ndarray) or given.dtype != np.uint8 or given.ndim != 1:
        raise _unfit("its noise is no state of a generator")
    if len(given) != len(noise.get_state()):
        raise ValueError(
            f"The state's noise was not drawn on a device of the kind {model.device.type!r}; restore it on the kind of "
            "device it came from."
        )
    try:
        torch.Generator(noise.device).set_state(torch.from_numpy(given.copy()))
    except (RuntimeError, TypeError) as error:
        raise _unfit(f"its noise is no state of a generator ({str(error).splitlines()[0]})") from error
    try:
        type(generator.bit_generator)().state = state.np_random
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        raise _unfit(f"its np_random is no state of a {type(generator.bit_generator).__name__} ({error!r})") from error


def _check_memory(memory: Memory, model: WorldModel) -> None:
    found, expected = memory.tensors(), model.initial_memory(1).tensors()
    if found.keys() != expected.keys():
        raise _unfit(f"its memory has the parts {', '.join(found)} instead of {', '.join(expected)}")
    grows = attention_reach(model.config.backbone) is None
    for name, tensor in found.items():
        ours, theirs = list(expected[name].shape), list(tensor.shape)
        if grows and name.startswith(("keys.", "values.")) and len(theirs) == len(ours):
            ours[1] = theirs[1]  # as many as frames that were seen
        if theirs != ours or tensor.dtype != expected[name].dtype:
            wanted = f"{tuple(ours)} {expected[name].dtype}"
            raise _unfit(f"{name} of its memory is {tuple(theirs)} {tensor.dtype} instead of {wanted}")
        if not tensor.isfinite().all():
            raise _unfit(f"{name} of its memory is not finite")
    if int(found["frames"]) < 0:
        raise _unfit(f"its memory has seen {int(found['frames'])} frames")


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _unfit(what: str) -> ValueError:
    return ValueError(f"A dream cannot go on from this state: {what}; give what get_state or DreamState.load returned.")


def _context_actions(given: Any, frames: int, space: gym.Space) -> np.ndarray:
    shape, dtype = action_layout(space)
    actions, needed = np.asarray(given), (frames - 1, *shape)
    if actions.shape != needed:
        raise ValueError(f"{frames} context frames need {needed} actions between them, got {actions.shape}.")
    if isinstance(space, spaces.Box):  # real environments take actions that are out of range
        fitting = actions.dtype.kind in "iuf" and bool(np.isfinite(actions).all())
    else:
        whole = actions.dtype.kind in "iub" or not len(actions)
        fitting = whole and all(space.contains(action) for action in actions.astype(dtype))
    if not fitting:
        raise ValueError(f"Context actions {actions!r} are not all in {space}; give those between the frames.")
    return actions.astype(dtype)


def _context_vectors(given: Any, frames: int, size: int) -> np.ndarray | None:
    if given is None:
        return None
    vectors = np.asarray(given, np.float32)
    if not size or vectors.shape != (frames, size):
        raise ValueError(
            f"Context vectors of {vectors.shape} do not fit {frames} frames of a model with {size} numbers per frame."
        )
    if not np.isfinite(vectors).all():
        raise ValueError("Context vectors hold NaN or infinity; give finite numbers, or none at all.")
    return vectors
