"""Dreams: N dreams stepped by one network call; the single and the vector environment are made of them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.utils import seeding
from torch import Tensor

from lssvwm_envs.dream.model_cache import shared_fingerprint, shared_model
from lssvwm_envs.dream.state import DreamState
from lssvwm_envs.observation import Observation, make_observation
from lssvwm_rl.data.store import Episode, EpisodeStore
from lssvwm_rl.model.checkpoints import check_fits, load_contexts
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.predict import observe_episodes
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.spaces import action_layout, space_from_json

TERMINATED_ABOVE = 0.5  # probability of the end at which a dream ends


@dataclass(frozen=True)
class DreamConfig:
    """How dreams are dreamt.

    Raises:
        ValueError: if a number is not whole or below 1, or there is no checkpoint.
    """

    checkpoint: str | None
    """Run folder, packaged name or hub id."""
    context_length: int = 1
    """Real frames observed at reset, from the beginning of a held-out episode; 1 starts where real episodes start."""
    horizon: int = 256
    """Dreamt steps until truncation."""
    denoise_steps: int = 4
    """Network passes per frame; more are slower and sharper."""
    device: str = "cpu"
    """Of the model."""
    compiled: bool = False
    """Whether the model dreams through torch.compile: faster, after a minute or more at the first step."""

    def __post_init__(self) -> None:
        if self.checkpoint is None:
            raise ValueError(
                'A dream needs a world model; name one, as in gym.make("lssvwm/Dream-v0", checkpoint="runs/NAME").'
            )
        numbers = (self.context_length, self.horizon, self.denoise_steps)
        if any(not isinstance(number, (int, np.integer)) or number < 1 for number in numbers):
            raise ValueError(
                "context_length, horizon and denoise_steps must be whole numbers of at least 1, got "
                f"{self.context_length!r}, {self.horizon!r} and {self.denoise_steps!r}."
            )


class Dreamt(NamedTuple):
    """One step of N dreams, on the model's device."""

    reward: Tensor  # (N,) float32
    terminated: Tensor  # (N,) bool
    truncated: Tensor  # (N,) bool
    probability: Tensor  # (N,) float32, of the end
    vector: Tensor | None  # (N, V) float32


class Dreams:
    """N dreams. What they have seen is in their memory; rows do not influence each other, but for how sums are rounded.

    Attributes:
        memory: N rows.
        frames: (N, H, W, C) uint8 on the model's device, the last observations.
        steps: (N,) int64 on the model's device, dreamt since the reset.
        begun: (N,) bool, rows that have been reset at least once.
        rngs: a generator per row, which draws its contexts and seeds its noise.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if it is broken.
    """

    def __init__(self, config: DreamConfig, count: int):
        assert config.checkpoint is not None
        self.config = config
        self.model: WorldModel = shared_model(config.checkpoint, config.device, config.compiled)
        self.fingerprint = shared_fingerprint(self.model)
        self.action_space = space_from_json(self.model.config.action_space)
        device = self.model.device
        self.memory = self.model.initial_memory(count)
        self.frames = torch.zeros(count, *self.model.config.frame_shape, dtype=torch.uint8, device=device)
        self.steps = torch.zeros(count, dtype=torch.int64, device=device)
        self.begun = np.zeros(count, bool)
        self.rngs = [seeding.np_random(None)[0] for _ in range(count)]
        self._noise = [torch.Generator(device) for _ in range(count)]

    @functools.cached_property
    def contexts(self) -> EpisodeStore:
        """The checkpoint's own held-out episodes; opened when first needed, since a context can also be given.

        Raises:
            ValueError: if it has none, or they are not of the model's environment.
        """
        assert self.config.checkpoint is not None
        contexts = load_contexts(self.config.checkpoint)
        header = contexts.header
        check_fits(self.model.config, header.frame_shape, header.action_space, f"The context store {contexts.path}")
        return contexts

    def __deepcopy__(self, memo: dict[int, Any]) -> Dreams:
        memo[id(self.model)] = self.model  # which holds weights only
        copied = copy.copy(self)
        copied.__dict__ = copy.deepcopy(self.__dict__, memo)
        return copied

    def begin(self, rows: np.ndarray, given: Episode | None = None) -> list[int]:
        """Begin rows (K,) int anew, after real frames; nothing else is touched.

        Args:
            given: what all of them have seen; each draws a held-out episode if None.

        Returns:
            Which episode each row drew, none if one was given.

        Raises:
            ValueError: if there are no contexts to draw from.
        """
        drawn, episodes = [], []
        for row in rows.tolist():
            if given is None:
                index = int(self.rngs[row].integers(len(self.contexts)))
                length = min(self.config.context_length, int(self.contexts.lengths[index]))
                drawn.append(index)
                episodes.append(self.contexts.read(index, 0, length))
            self._noise[row].manual_seed(int(self.rngs[row].integers(2**63)))
        if given is not None:
            memory = observe_contexts(self.model, [given]).repeat(len(rows))
            last = np.stack([given.frames[-1]] * len(rows))
        else:
            memory = observe_contexts(self.model, episodes)
            last = np.stack([episode.frames[-1] for episode in episodes])
        self._put(rows, memory, torch.from_numpy(last), 0)
        return drawn

    def step(self, actions: Tensor) -> Dreamt:
        """Dream one step in every row: actions (N[, A]) on the model's device, unchecked."""
        imagined = self.model.imagine(self.memory, actions, self._noise, self.config.denoise_steps)
        self.memory, self.frames, self.steps = imagined.memory, imagined.frame, self.steps + 1
        terminated = imagined.terminated > TERMINATED_ABOVE
        truncated = self.steps >= self.config.horizon
        return Dreamt(imagined.reward, terminated, truncated, imagined.terminated, imagined.vector)

    def observe(self, observation: Observation) -> Any:
        """What all rows see now, (N, ...) on the model's device; copies, so writing to them does no harm."""
        return make_observation(self.frames.clone(), self.memory, observation)

    def state(self, row: int, ended: bool) -> DreamState:
        """Where a row is.

        Raises:
            gymnasium.error.ResetNeeded: if it has not begun.
        """
        if not self.begun[row]:
            raise gym.error.ResetNeeded("There is no dream yet; call reset() before get_state().")
        return DreamState(
            memory=self.memory.select(torch.tensor([row])),
            model=self.fingerprint,
            frame=self.frames[row].cpu().numpy().copy(),
            steps=int(self.steps[row]),
            ended=ended,
            noise=self._noise[row].get_state().numpy().copy(),
            np_random=dict(self.rngs[row].bit_generator.state),
        )

    def check_state(self, state: DreamState) -> None:
        """Raise ValueError unless it is a state of this model, with noise of this kind of device."""
        if not isinstance(state, DreamState):
            raise ValueError(
                f"A {type(state).__name__} is not a dream's state; give what get_state or DreamState.load returned."
            )
        if state.model != self.fingerprint or state.memory.batch_size != 1:
            raise ValueError(
                f"The state has {state.memory.batch_size} rows of memory of model {state.model}, this env dreams 1 of "
                f"{self.fingerprint}; restore it in an env with the checkpoint it came from."
            )
        if len(state.noise) != len(self._noise[0].get_state()):
            raise ValueError(
                f"The state's noise was not drawn on a device of the kind {self.model.device.type!r}; restore it on "
                "the kind of device it came from."
            )

    def restore(self, rows: np.ndarray, state: DreamState) -> None:
        """Let rows (K,) int go on from a state; nothing else is touched.

        Raises:
            ValueError: as `check_state`.
        """
        self.check_state(state)
        noise = torch.from_numpy(state.noise.copy())
        for row in rows.tolist():
            self._noise[row].set_state(noise)
            self.rngs[row].bit_generator.state = state.np_random
        last = torch.from_numpy(state.frame.copy())[None].repeat(len(rows), 1, 1, 1)
        self._put(rows, state.memory.to(self.model.device).repeat(len(rows)), last, state.steps)

    def reseed(self, rows: np.ndarray, seed: int) -> None:
        """Give rows futures of their own: row i draws its noise, and later its contexts, anew from seed + i."""
        for row in rows.tolist():
            self.rngs[row], _ = seeding.np_random(seed + row)
            self._noise[row].manual_seed(int(self.rngs[row].integers(2**63)))

    def start_of(self, options: dict[str, Any]) -> tuple[DreamState | None, Episode | None]:
        """The state or the context in the options of a reset, checked before anything is changed.

        Raises:
            ValueError: if it does not fit the model, or there are both.
        """
        state, context = options.get("state"), options.get("context")
        if state is not None and context is not None:
            raise ValueError("A dream cannot begin with a state and a context; give one of the two options.")
        if state is not None:
            self.check_state(state)
        return state, None if context is None else self.given_context(context)

    def given_context(self, context: Any) -> Episode:
        """Real frames (T, H, W, C) uint8, the actions (T-1[, A]) between them, and vectors (T, V) if the model has any.

        Raises:
            ValueError: if they do not fit the model.
        """
        parts = len(context) if isinstance(context, (tuple, list)) else 0
        if parts not in (2, 3):
            got = type(context).__name__ + (f" of {parts}" if parts else "")
            raise ValueError(f"A context must be (frames, actions) or (frames, actions, vectors), got a {got}.")
        shape, dtype = action_layout(self.action_space)
        frames, actions = np.asarray(context[0]), np.asarray(context[1])
        vectors, config = context[2] if parts == 3 else None, self.model.config
        if frames.dtype != np.uint8 or frames.shape[1:] != config.frame_shape or len(frames) == 0:
            raise ValueError(
                f"Context frames of {frames.shape} {frames.dtype} do not fit; give T frames of "
                f"{config.frame_shape} uint8."
            )
        needed = (len(frames) - 1, *shape)
        if actions.shape != needed:
            raise ValueError(f"{len(frames)} context frames need {needed} actions between them, got {actions.shape}.")
        space = self.action_space
        if isinstance(space, spaces.Box):  # real environments take actions that are out of range
            fitting = actions.dtype.kind in "iuf" and bool(np.isfinite(actions).all())
        else:
            whole = actions.dtype.kind in "iub" or not len(actions)
            fitting = whole and all(space.contains(action) for action in actions.astype(dtype))
        if not fitting:
            raise ValueError(f"Context actions {actions!r} are not all in {space}; give those between the frames.")
        if vectors is not None:
            vectors = np.asarray(vectors, np.float32)
            if not config.vector_size or vectors.shape != (len(frames), config.vector_size):
                raise ValueError(
                    f"Context vectors of {vectors.shape} do not fit {len(frames)} frames of a model with "
                    f"{config.vector_size} numbers per frame."
                )
            if not np.isfinite(vectors).all():
                raise ValueError("Context vectors hold NaN or infinity; give finite numbers, or none at all.")
        none = np.zeros(len(actions), np.float32)
        return Episode(frames, actions.astype(dtype), none, terminated=False, truncated=False, vectors=vectors)

    def _put(self, rows: np.ndarray, memory: Memory, frames: Tensor, steps: int) -> None:
        index = torch.from_numpy(rows)
        self.memory = self.memory.put(index, memory)
        index = index.to(self.model.device)
        self.frames = self.frames.index_copy(0, index, frames.to(self.model.device))
        self.steps = self.steps.index_fill(0, index, steps)
        self.begun[rows] = True


def observe_contexts(model: WorldModel, contexts: Sequence[Episode]) -> Memory:
    """Memories after the contexts' last frames."""
    return observe_episodes(model, contexts)


def check_actions(actions: Any, space: gym.Space) -> np.ndarray:
    """Actions in the layout the model takes, of a single space or of one for N rows.

    Raises:
        gymnasium.error.InvalidAction: if they are not in the space; numbers of another type are taken for a Box.
    """
    try:
        given = np.asarray(actions)
    except ValueError:
        given = np.array(None)  # rows of different lengths are in no space
    if given.dtype.kind in "iuf" and space.dtype is not None and space.dtype.kind == "f":
        given = given.astype(space.dtype)
    whole = given.dtype.kind in "iub" or isinstance(space, spaces.Box)  # MultiDiscrete would take 1.5
    if not whole or not space.contains(given if space.shape else actions):
        raise gym.error.InvalidAction(f"Action {actions!r} is not in {space}; give one that is.")
    return given


def check_options(options: dict[str, Any] | None, known: Sequence[str]) -> dict[str, Any]:
    """The options of a reset.

    Raises:
        ValueError: if one is unknown.
    """
    for option in options or {}:
        if option not in known:
            raise ValueError(f"Option {option!r} is unknown; use {' or '.join(known)}.")
    return options or {}


def to_numpy(value: Any) -> Any:
    """Tensors, in dicts or not, as arrays."""
    return {k: to_numpy(v) for k, v in value.items()} if isinstance(value, dict) else value.cpu().numpy()
