"""Dreamer: one step of a dream, or of a memory beside a real environment, with the state going in and coming out."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding

from lssvwm_envs.dream.beginnings import Beginning, observed
from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.dream.state import DreamState
from lssvwm_envs.play.moments import KeptStates, Line, Moment
from lssvwm_rl.data.episode import Episode
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.spaces import action_layout, space_from_json

FAR = 2**62  # steps; where a dream is cut is decided by who plays it, and can be changed while it lasts
ENVS = 3  # that are kept, one for each number of passes
_BEGINNING = Lock()  # what was observed of held-out episodes is kept for all threads


class Dreamer:
    """Dreams of one checkpoint, each alone in its batch: the same state and action always give the same bits.

    Args:
        checkpoint: run folder, packaged name or hub id.
        context_length: real frames that dreams in held-out episodes begin after.

    Raises:
        FileNotFoundError, ValueError: as `DreamEnv`.
    """

    def __init__(self, checkpoint: str, context_length: int = 1):
        self._checkpoint, self._context_length = checkpoint, context_length
        self._shared = shared_engine(checkpoint)
        self.model = self._shared.model
        self.action_space = space_from_json(self.model.config.action_space)
        self._envs: OrderedDict[int, DreamEnv] = OrderedDict()
        self._at: dict[int, DreamState] = {}  # where each of them is

    def begin(self, seed: int, passes: int) -> tuple[Moment, DreamState]:
        """After the first frames of a held-out episode, which the seed chooses.

        Raises:
            ValueError: if the checkpoint has none.
        """
        env = self._env(passes)
        with _BEGINNING:
            env.reset(seed=seed)
        self._at[passes] = state = env.get_state()
        return Moment(state.frame, "given"), state

    def begin_with(self, frame: np.ndarray, seed: int, vectors: np.ndarray | None = None) -> DreamState:
        """The state after one frame (H, W, C) uint8, the first of an episode, perhaps with its vectors (V,)."""
        begun = self._observed([frame], None, [vectors], None)
        return DreamState(begun.memory, self._shared.fingerprint, frame, 0, False, *_noise(seed))

    def step(self, state: DreamState, before: Moment, action: np.ndarray, passes: int) -> tuple[Moment, DreamState]:
        """Dream one step.

        Args:
            state: at `before`, not ended.
            action: () or (A,), in the layout of `action_layout`.
            passes: of the network, per frame.
        """
        env = self._env(passes)
        if self._at.get(passes) is not state:
            env.set_state(state)
        frame, reward, terminated, truncated, info = env.step(action if action.ndim else action.item())
        self._at[passes] = after = env.get_state()
        moment = Moment(
            frame,
            "dream",
            action,
            reward,
            before.total + reward,
            info["terminated_probability"],
            info.get("doubt"),
            terminated,
            truncated,
            passes,
            after.steps,
        )
        return moment, after

    def commit(self, state: DreamState, before: Moment, real: Moment) -> DreamState:
        """The state after a real moment that follows `before`, the state at which is given."""
        told = [before.vectors, real.vectors]
        memory = self._observed([before.frame, real.frame], real.action, told, state.memory).memory
        return replace(state, memory=memory, frame=real.frame, steps=0)

    def state_at(self, line: Line, kept: KeptStates) -> DreamState:
        """The state where a line is looked at: kept, or computed again from the last one before it that is, by the same
        steps, so with the same bits."""
        if (found := kept.get(line.now)) is not None:
            return found
        first = line.at
        while first and kept.get(line.moments[first]) is None:
            first -= 1
        state = kept.get(line.moments[first]) or line.beginning
        for before, moment in pairwise(line.moments[first : line.at + 1]):
            if moment.source == "real":
                state = self.commit(state, before, moment)
            else:
                assert moment.action is not None
                _, state = self.step(state, before, moment.action, moment.passes)
            state = state if moment.reseeded is None else self.reseeded(state, moment.reseeded)
        kept.put(line.now, line.at, state)
        return state

    def reseeded(self, state: DreamState, seed: int) -> DreamState:
        """The same state with another future: what a reset with this seed would draw noise from."""
        noise, np_random = _noise(seed)
        return replace(state, noise=noise, np_random=np_random)

    def check(self, state: DreamState) -> None:
        """Raise ValueError unless a dream can go on from a state that somebody gave."""
        passes = next(iter(self._envs), 1)
        self._at.pop(passes, None)
        self._env(passes).set_state(state)

    def _env(self, passes: int) -> DreamEnv:
        if passes not in self._envs:
            self._envs[passes] = DreamEnv(self._checkpoint, self._context_length, FAR, passes)
            if len(self._envs) > ENVS:
                self._at.pop(self._envs.popitem(last=False)[0], None)
        self._envs.move_to_end(passes)
        return self._envs[passes]

    def _observed(
        self,
        frames: list[np.ndarray],
        action: np.ndarray | None,
        vectors: list[np.ndarray | None],
        before: Memory | None,
    ) -> Beginning:
        shape, dtype = action_layout(self.action_space)
        actions = np.zeros((0, *shape), dtype) if action is None else action[None]
        told = [each for each in vectors if each is not None]
        stacked = np.stack(told) if len(told) == len(frames) else None
        rewards = np.zeros(len(actions), np.float32)
        episode = Episode(np.stack(frames), actions, rewards, terminated=False, truncated=False, vectors=stacked)
        return observed(self._shared.engine, episode, before)


def _noise(seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """States of the two generators of a dream, as `DreamEnv.reset(seed=seed)` leaves them with a context that is
    given."""
    generator, _ = seeding.np_random(seed)
    noise = torch.Generator().manual_seed(int(generator.integers(2**63)))
    return noise.get_state().numpy().copy(), dict(generator.bit_generator.state)
