"""Dreams: N dreams stepped by one network call; the single and the vector environment are made of them."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import seeding
from torch import Tensor

from lssvwm_envs.dream.beginnings import Beginning, observed
from lssvwm_envs.dream.checks import check_context, check_parts
from lssvwm_envs.dream.config import DreamConfig
from lssvwm_envs.dream.forks import stay_able_to_run
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.dream.state import DreamState
from lssvwm_envs.observation import make_observation
from lssvwm_envs.rows import with_masks
from lssvwm_rl.data.remote import RemotePath
from lssvwm_rl.data.store import Episode, EpisodeStore
from lssvwm_rl.model.checkpoint_files import resolve_checkpoint
from lssvwm_rl.model.checkpoints import check_fits, load_contexts
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.spaces import space_from_json

TERMINATED_ABOVE = 0.5  # probability of the end at which a dream ends
DOUBTED_FROM = 0.99  # the border of pictures, where there is no limit


class DreamStep(NamedTuple):
    """One step of N dreams; those that had ended before have no reward and no second end. Tensors are on the model's
    device, arrays on the host, which counts the steps.
    """

    reward: Tensor  # (N,) float32, for the frame as it was decided to be, the last one or not; less what doubt costs
    terminated: np.ndarray  # (N,) bool
    truncated: np.ndarray  # (N,) bool
    terminated_probability: Tensor  # (N,) float32
    vector: Tensor | None  # (N, V) float32
    doubt: Tensor | None  # (N,) float32 in [0, 1]; None if it has no scale
    doubtful: Tensor | None  # (N,) bool, which dreams were cut for their doubt; None without a limit

    @property
    def info(self) -> dict[str, Tensor]:
        """What environments put into their info."""
        info = {"terminated_probability": self.terminated_probability, "vector": self.vector}
        info |= {"doubt": self.doubt, "doubtful": self.doubtful}
        return {name: part for name, part in info.items() if part is not None}


class Dreams:
    """N dreams, see `rows.Rows`. What they have seen is in their memory; rows do not influence each other, but for how
    sums are rounded.

    Attributes:
        shared: the engine, and what else all dreams of the checkpoint have in common.
        memory: N rows. One row is a value, which states share; several are held here alone, and rows that begin anew
            are written into them.
        frames: (N, H, W, C) uint8 on the model's device, the last ones; held here alone, too.
        readout: (N, R') of the memory, held here alone; None if nobody observes it.
        steps: (N,) int64, dreamt since the reset.
        ended: (N,) bool, rows whose dream has ended and waits for its reset.
        empty: (N,) bool, rows that have had no dream yet.
        generators: one per row, which draws its contexts and seeds its noise.
        doubt: (N,) float32 in [0, 1] on the model's device, of the last frames; 0 for those that were not dreamt here,
            or if it has no scale. Held here alone, too.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if it is broken, or dreams are to depend on a doubt that has no scale.
    """

    def __init__(self, config: DreamConfig, count: int):
        assert config.checkpoint is not None
        self.config = config
        self.shared = shared_engine(config.checkpoint, config.device, config.engine)
        # Wherever the process goes until contexts are needed, these are the folders that were named.
        self._folder = resolve_checkpoint(config.checkpoint).absolute()
        self._named = None if config.contexts is None else Path(config.contexts).absolute()
        self.model: WorldModel = self.shared.model
        self.action_space = space_from_json(self.model.config.action_space)
        device = self.model.device
        self._scale = self.shared.doubt_scale(config.denoise_steps, required=config.needs_doubt)
        self.doubt = torch.zeros(count, device=device)
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
        model = self.model.config
        contexts = load_contexts(self._folder) if self._named is None else EpisodeStore(self._named)
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
        engine, config = self.shared.engine, self.config
        noise = engine.draw(self._noise) * config.temperature
        imagined = engine.imagine(self.memory, actions, noise, config.denoise_steps)
        self.memory, self.frames, self.steps = imagined.memory, imagined.frame, self.steps + 1
        self.readout = self._read()
        ends = imagined.terminated > self._ends_above()
        reward = torch.where(ends, imagined.rewards[:, 1], imagined.rewards[:, 0])
        truncated, doubtful = self.steps >= config.horizon, None
        doubt = None if self._scale is None else self._scale(imagined.doubt)
        if doubt is not None:
            self.doubt = doubt.clone()
            reward = reward - config.doubt_penalty * doubt if config.doubt_penalty else reward
            if config.doubt_limit is not None:
                doubtful = doubt >= config.doubt_limit
                truncated = truncated | doubtful.cpu().numpy()
        terminated = ends.cpu().numpy()
        if self.ended.any():
            stepped = ~self.ended
            reward = reward * torch.from_numpy(stepped).to(self.model.device)
            terminated, truncated = terminated & stepped, truncated & stepped
        self.ended = self.ended | terminated | truncated
        said = imagined.terminated, imagined.vector, doubt, doubtful
        return DreamStep(reward, terminated, truncated, *said)

    def doubted(self) -> np.ndarray:
        """(N,) bool, whose last frame has a doubt from the limit on, or from 0.99 on without a limit."""
        limit = self.config.doubt_limit
        return (self.doubt >= (DOUBTED_FROM if limit is None else limit)).cpu().numpy()

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
            memory=self.memory if len(self.ended) == 1 else self.memory.select(torch.tensor([row])),
            model=self.shared.fingerprint,
            frame=self.frames[row].cpu().numpy().copy(),
            steps=int(self.steps[row]),
            ended=bool(self.ended[row]),
            noise=self._noise[row].get_state().numpy().copy(),
            np_random=dict(self.generators[row].bit_generator.state),
        )

    def check_state(self, state: DreamState) -> None:
        """Raise ValueError unless a dream can go on from a state of this model, all of which is checked."""
        if not isinstance(state, DreamState):
            raise ValueError(
                f"A {type(state).__name__} is not a dream's state; give what get_state or DreamState.load returned."
            )
        self.shared.check_memory(state.memory, state.model, 1)
        check_parts(state, self.model, self._noise[0], self.generators[0])

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
        share, first = self.config.anywhere, self.config.context_length
        if not share or (share < 1 and generator.random() >= share):
            episode = int(generator.integers(len(self.contexts)))
            return episode, min(first, int(self.contexts.lengths[episode]))
        moment = int(generator.integers(self._moments[-1]))
        episode = int(np.searchsorted(self._moments, moment, side="right"))
        return episode, int(self.contexts.lengths[episode]) + 1 - (int(self._moments[episode]) - moment)

    @functools.cached_property
    def _moments(self) -> np.ndarray:
        """(N,) int64, the moments of all contexts up to each, after which a dream can begin."""
        return np.cumsum(np.maximum(self.contexts.lengths - self.config.context_length, 0) + 1)

    def _beginning(self, episode: int, length: int) -> Beginning:
        return self.shared.beginnings.after(self.contexts, self._contexts_version, episode, length)

    @functools.cached_property
    def _contexts_version(self) -> tuple[str, int]:
        header = self.contexts.path / "header.json"
        if isinstance(header, RemotePath):
            return str(header), 0
        return str(header.resolve()), header.stat().st_mtime_ns

    def _draw_noise(self, row: int) -> None:
        self._noise[row].manual_seed(int(self.generators[row].integers(2**63)))

    def _read(self) -> Tensor | None:
        return None if self.config.observation == "image" else self.memory.readout()

    def _put(self, row: int, beginning: Beginning, steps: int, ended: bool) -> None:
        # In place: frames and memories of several rows are never handed out, but for copies.
        alone = len(self.ended) == 1
        self.memory = beginning.memory if alone else self.memory.overwrite(row, beginning.memory)
        self.frames[row].copy_(beginning.frame[0])
        if self.readout is not None:
            self.readout[row].copy_(beginning.readout[0])
        self.steps[row], self.doubt[row] = steps, 0
        self.ended, self.empty = self.ended.copy(), self.empty.copy()
        self.ended[row], self.empty[row] = ended, False
