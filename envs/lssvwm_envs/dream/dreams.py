"""Dreams: N dreams stepped by one network call; the single and the vector environment are made of them."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import seeding
from torch import Tensor

from lssvwm_envs.dream.beginnings import Beginning, observed
from lssvwm_envs.dream.checks import check_context
from lssvwm_envs.dream.forks import stay_able_to_run
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.dream.state import DreamState
from lssvwm_envs.observation import Observation, make_observation
from lssvwm_envs.rows import with_masks
from lssvwm_rl.data.store import Episode, EpisodeStore
from lssvwm_rl.model.checkpoints import check_fits, load_contexts
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.spaces import space_from_json

TERMINATED_ABOVE = 0.5  # probability of the end at which a dream ends
STARTS = {"first": 0.0, "anywhere": 1.0}

End = Literal["threshold", "sample"]


@dataclass(frozen=True)
class DreamConfig:
    """How dreams are dreamt.

    Raises:
        ValueError: if a number is not whole or below 1, no checkpoint is named, there is no such start or end, or
            `compiled` is given.
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
    engine: str = "auto"
    """What runs the model, see `engine.make_engine`: "auto" is the fastest whose frames are those of all engines;
    "compiled", which it is on CUDA, needs a minute or more for the first step."""
    observation: Observation = "image"
    """What agents see: image, memory or both."""
    start: str | float = "first"
    """"first": after the first `context_length` frames of a real episode; "anywhere": after any number of them from
    there on, all of which were observed; a number is the share of dreams that begin anywhere."""
    contexts: str | None = None
    """Store of the real episodes; None for the held-out ones that come with the checkpoint."""
    end: End = "threshold"
    """"threshold": a dream ends where the model gives its end more than probability 0.5; "sample": the end is drawn
    with that probability, by the row's own random numbers."""
    compiled: bool | None = None
    """Not to be given any more."""

    def __post_init__(self) -> None:
        if self.checkpoint is None:
            raise ValueError(
                'A dream needs a world model; name one, as in gym.make("lssvwm/Dream-v0", checkpoint="runs/NAME").'
            )
        if self.compiled is not None:
            raise ValueError(f'compiled={self.compiled!r} is now engine="{"compiled" if self.compiled else "auto"}".')
        numbers = (self.context_length, self.horizon, self.denoise_steps)
        if any(not isinstance(number, (int, np.integer)) or number < 1 for number in numbers):
            raise ValueError(
                "context_length, horizon and denoise_steps must be whole numbers of at least 1, got "
                f"{self.context_length!r}, {self.horizon!r} and {self.denoise_steps!r}."
            )
        share = STARTS.get(self.start) if isinstance(self.start, str) else self.start
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise ValueError(f'A dream cannot start {self.start!r}; use "first", "anywhere" or a share from 0 to 1.')
        if self.end not in get_args(End):
            raise ValueError(f"A dream cannot end by {self.end!r}; use {' or '.join(get_args(End))}.")

    @property
    def anywhere(self) -> float:
        """Share of dreams that begin anywhere in an episode."""
        return STARTS[self.start] if isinstance(self.start, str) else float(self.start)


class DreamStep(NamedTuple):
    """One step of N dreams; those that had ended before have no reward and no second end. Tensors are on the model's
    device, arrays on the host, which counts the steps.
    """

    reward: Tensor  # (N,) float32
    terminated: np.ndarray  # (N,) bool
    truncated: np.ndarray  # (N,) bool
    terminated_probability: Tensor  # (N,) float32
    vector: Tensor | None  # (N, V) float32

    @property
    def info(self) -> dict[str, Tensor]:
        """What environments put into their info."""
        info = {"terminated_probability": self.terminated_probability}
        return info if self.vector is None else {**info, "vector": self.vector}


class Dreams:
    """N dreams, see `rows.Rows`. What they have seen is in their memory; rows do not influence each other, but for how
    sums are rounded.

    Attributes:
        shared: the engine, and what else all dreams of the checkpoint have in common.
        memory: N rows, held here alone: rows that begin anew are written into it.
        frames: (N, H, W, C) uint8 on the model's device, the last ones; held here alone, too.
        readout: (N, R') of the memory, held here alone; None if nobody observes it.
        steps: (N,) int64, dreamt since the reset.
        ended: (N,) bool, rows whose dream has ended and waits for its reset.
        empty: (N,) bool, rows that have had no dream yet.
        generators: one per row, which draws its contexts and seeds its noise.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if it is broken.
    """

    def __init__(self, config: DreamConfig, count: int):
        assert config.checkpoint is not None
        self.config = config
        self.shared = shared_engine(config.checkpoint, config.device, config.engine)
        self.model: WorldModel = self.shared.model
        self.action_space = space_from_json(self.model.config.action_space)
        device = self.model.device
        self.memory = self.model.initial_memory(count)
        self.frames = torch.zeros(count, *self.model.config.frame_shape, dtype=torch.uint8, device=device)
        self.readout = self._read()
        self.steps = np.zeros(count, np.int64)
        self.ended, self.empty = np.zeros(count, bool), np.ones(count, bool)
        self.generators = [seeding.np_random(None)[0] for _ in range(count)]
        self._noise = [torch.Generator(device) for _ in range(count)]

    @functools.cached_property
    def contexts(self) -> EpisodeStore:
        """The real episodes that dreams begin in; opened when first needed, since a context can also be given.

        Raises:
            ValueError: if there are none, or they are not of the model's environment.
        """
        assert self.config.checkpoint is not None
        named, model = self.config.contexts, self.model.config
        contexts = load_contexts(self.config.checkpoint) if named is None else EpisodeStore(Path(named))
        header, what = contexts.header, f"The context store {contexts.path}"
        if not len(contexts):
            raise ValueError(f"{what} has no episodes to start dreams from; collect some.")
        check_fits(model, header.frame_shape, header.action_space, what)
        if model.vector_size and header.vector_size != model.vector_size:
            raise ValueError(
                f"{what} has vectors of {header.vector_size} numbers, the world model takes {model.vector_size}; "
                "collect with the same --vector."
            )
        return contexts

    def __deepcopy__(self, memo: dict[int, Any]) -> Dreams:
        memo[id(self.model)] = self.model  # which holds weights only
        copied = copy.copy(self)
        copied.__dict__ = copy.deepcopy(self.__dict__, memo)
        return copied

    def start_of(self, options: dict[str, Any]) -> DreamState | Episode | None:
        """Where the options of a reset let dreams begin, checked before anything is changed.

        Returns:
            A state, a context, or None for contexts that are drawn.

        Raises:
            ValueError: if it does not fit the model, if there are both, or if there are no contexts to draw from.
        """
        state, context = options.get("state"), options.get("context")
        if state is not None and context is not None:
            raise ValueError("A dream cannot begin with a state and a context; give one of the two options.")
        if state is not None:
            self.check_state(state)
            return state
        if context is not None:
            return check_context(context, self.model.config)
        _ = self.contexts  # opened now, so that what is wrong with them is said now
        return None

    def begin(self, mask: np.ndarray, start: DreamState | Episode | None = None) -> dict[str, np.ndarray]:
        """Begin the rows of a mask (N,) bool anew; nothing else is touched.

        Args:
            start: checked, see `start_of`: a state that all of them go on from, or a context that all of them have
                seen; if None, each draws one of the held-out episodes.

        Returns:
            Info with masks: which episodes were drawn, and how many frames of each were observed.

        Raises:
            ValueError: if there are no contexts to draw from.
        """
        stay_able_to_run()
        rows = np.flatnonzero(mask).tolist()
        if isinstance(start, DreamState):
            self._go_on(rows, start)
            return {}
        drawn, lengths = np.zeros((2, len(mask)), np.int64)
        if start is None:
            for row in rows:
                drawn[row], lengths[row] = self._draw_context(self.generators[row])
            begun = [self._beginning(int(drawn[row]), int(lengths[row])) for row in rows]
        else:
            begun = [observed(self.shared.engine, start)] * len(rows)
        for row, beginning in zip(rows, begun, strict=True):
            self._draw_noise(row)
            self._put(row, beginning, steps=0, ended=False)
        return {} if start is not None else with_masks({"context_episode": drawn, "context_frames": lengths}, mask)

    def step(self, actions: Tensor) -> DreamStep:
        """Dream one step in every row: actions (N[, A]) on the model's device, unchecked.

        Rows that have ended take part, so that the batch keeps its shape; what they dream is of no account.
        """
        stay_able_to_run()
        imagined = self.shared.engine.imagine(self.memory, actions, self._noise, self.config.denoise_steps)
        self.memory, self.frames, self.steps = imagined.memory, imagined.frame, self.steps + 1
        self.readout = self._read()
        reward, truncated = imagined.reward, self.steps >= self.config.horizon
        terminated = (imagined.terminated > self._ends_above()).cpu().numpy()
        if self.ended.any():
            stepped = ~self.ended
            reward = reward * torch.from_numpy(stepped).to(self.model.device)
            terminated, truncated = terminated & stepped, truncated & stepped
        self.ended = self.ended | terminated | truncated
        return DreamStep(reward, terminated, truncated, imagined.terminated, imagined.vector)

    def observe(self) -> Any:
        """What all rows see now, (N, ...) on the model's device; copies, so writing to them does no harm."""
        readout = None if self.readout is None else self.readout.clone()
        return make_observation(self.frames.clone(), readout, self.config.observation)

    def state(self, row: int) -> DreamState:
        """Where a row is.

        Raises:
            gymnasium.error.ResetNeeded: if it has had no dream yet.
        """
        if self.empty[row]:
            raise gym.error.ResetNeeded("There is no dream yet; call reset() before get_state().")
        return DreamState(
            memory=self.memory.select(torch.tensor([row])),
            model=self.shared.fingerprint,
            frame=self.frames[row].cpu().numpy().copy(),
            steps=int(self.steps[row]),
            ended=bool(self.ended[row]),
            noise=self._noise[row].get_state().numpy().copy(),
            np_random=dict(self.generators[row].bit_generator.state),
        )

    def check_state(self, state: DreamState) -> None:
        """Raise ValueError unless it is a state of this model, with noise of this kind of device."""
        if not isinstance(state, DreamState):
            raise ValueError(
                f"A {type(state).__name__} is not a dream's state; give what get_state or DreamState.load returned."
            )
        self.shared.check_memory(state.memory, state.model, 1)
        if len(state.noise) != len(self._noise[0].get_state()):
            raise ValueError(
                f"The state's noise was not drawn on a device of the kind {self.model.device.type!r}; restore it on "
                "the kind of device it came from."
            )

    def reseed(self, mask: np.ndarray, seed: int) -> None:
        """Give the rows of a mask other futures: row i draws its noise, and later its contexts, anew from seed + i."""
        for row in np.flatnonzero(mask).tolist():
            self.generators[row], _ = seeding.np_random(seed + row)
            self._draw_noise(row)

    def _go_on(self, rows: list[int], state: DreamState) -> None:
        noise = torch.from_numpy(state.noise.copy())
        last = torch.from_numpy(state.frame.copy())[None].to(self.model.device)
        beginning = Beginning(state.memory.to(self.model.device), last)
        for row in rows:
            self._noise[row].set_state(noise)
            self.generators[row].bit_generator.state = state.np_random
            self._put(row, beginning, state.steps, state.ended)

    def _ends_above(self) -> Tensor | float:
        """Probability of the end above which each row ends now."""
        if self.config.end == "threshold":
            return TERMINATED_ABOVE
        device = self.model.device
        return torch.cat([torch.rand(1, generator=generator, device=device) for generator in self._noise])

    def _draw_context(self, generator: np.random.Generator) -> tuple[int, int]:
        """An episode, and how many of its frames are observed; at least one step of it was not seen then."""
        episode, share = int(generator.integers(len(self.contexts))), self.config.anywhere
        most = int(self.contexts.lengths[episode])
        first = min(self.config.context_length, most)
        if not share or (share < 1 and generator.random() >= share):
            return episode, first
        return episode, int(generator.integers(first, most + 1))

    def _beginning(self, episode: int, length: int) -> Beginning:
        return self.shared.beginnings.after(self.contexts, self._contexts_version, episode, length)

    @functools.cached_property
    def _contexts_version(self) -> tuple[str, int]:
        header = self.contexts.path / "header.json"
        return str(header.resolve()), header.stat().st_mtime_ns

    def _draw_noise(self, row: int) -> None:
        self._noise[row].manual_seed(int(self.generators[row].integers(2**63)))

    def _read(self) -> Tensor | None:
        return None if self.config.observation == "image" else self.memory.readout()

    def _put(self, row: int, beginning: Beginning, steps: int, ended: bool) -> None:
        # In place: memory and frames are never handed out, but for copies.
        self.memory = self.memory.overwrite(row, beginning.memory)
        self.frames[row].copy_(beginning.frame[0])
        if self.readout is not None:
            self.readout[row].copy_(beginning.readout[0])
        self.steps[row] = steps
        self.ended, self.empty = self.ended.copy(), self.empty.copy()
        self.ended[row], self.empty[row] = ended, False
