"""MemoryObservation: a world model runs beside a real environment, and its memory is what the agent sees."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from lssvwm_envs.dream.forks import stay_able_to_run
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.observation import make_observation, observation_space
from lssvwm_envs.rows import autoreset_mode_of, reset_mask, row_of
from lssvwm_rl.model.checkpoints import check_fits, vector_keys_of
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.spaces import (
    action_layout,
    check_image,
    image_key,
    image_of,
    image_shape,
    read_vector,
    space_from_json,
    space_to_json,
    unseen,
)

Kind = Literal["memory", "both"]
E = TypeVar("E", gym.Env, VectorEnv)


@dataclass(frozen=True)
class RealState(Generic[E]):
    """A point in real episodes, with the memory of them."""

    memory: Memory
    model: str
    """`checkpoints.fingerprint` of the model whose memory it is."""
    frames: np.ndarray
    """(n, H, W, C) uint8, the last ones."""
    ended: np.ndarray
    """(n,) bool, rows whose episode has ended and that the next step begins anew."""
    env: E
    """A copy of the whole environment: Gymnasium has no state that every environment could hand out."""


class MemoryObservation(gym.Wrapper):
    """Observations become the readout that a dream gives after the same frames and actions.

    A policy trained on a dream's "memory" (or "both") therefore runs here unchanged. One frame is committed per step,
    and a reset clears the memory; so does a step after an episode's end, which is how environments that reset
    themselves (`gymnasium.wrappers.Autoreset`) begin the next one. A model with vectors is given them if the
    observation is a Dict that holds them; what collection took from `info` is not for an agent to know, and the model
    predicts it.

    Args:
        env: its observation is the model's image, or a Dict with it.
        checkpoint: run folder, packaged name or hub id.
        observation: "memory" (R',) float32 in [-1, 1], the readout, which has `model.readout_size` numbers; or "both"
            for a Dict of image and memory.
        device: of the model.
        engine: what runs it, see `DreamConfig`.
        keep: keys of the environment's Dict that the agent sees as well, for example "mission": observations are a
            Dict then.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the environment's frames or actions are not the model's, there is no such engine, or a key is
            not there to be kept.
    """

    def __init__(
        self,
        env: gym.Env,
        checkpoint: str,
        observation: Kind = "memory",
        device: str = "cpu",
        engine: str = "auto",
        keep: Sequence[str] = (),
    ):
        super().__init__(env)
        spaces = env.observation_space, env.action_space
        self._reader = _Reader(env, *spaces, checkpoint, observation, device, engine, keep)
        self.observation_space = self._reader.observation_space
        self._memory, self._frames = self._reader.blank(1)
        self._ended = np.zeros(1, bool)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and forget."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._memory, _ = self._reader.blank(1)
        self._ended = np.zeros(1, bool)
        return self._remember(observation, None), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment and commit the frame."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._ended[0]:  # this was a reset, to which no action led
            self._memory, _ = self._reader.blank(1)
        seen = self._remember(observation, None if self._ended[0] else action)
        self._ended = np.array([bool(terminated or truncated)])
        return seen, reward, terminated, truncated, info

    def get_state(self) -> RealState[gym.Env]:
        """Where the episode is: given to `set_state`, the same actions give the same observations.

        Raises:
            ValueError: if the environment cannot be copied.
        """
        frames = self._frames.copy()  # they may be the environment's own buffer
        return RealState(self._memory, self._reader.fingerprint, frames, self._ended, _copy(self.env))

    def set_state(self, state: RealState[gym.Env]) -> None:
        """Go on from a state. The environment in it is copied once more, so that it can be restored again.

        Raises:
            ValueError: if the memory in it is another model's.
        """
        self._reader.check_state(state, 1)
        self.env, self._memory, self._frames = _copy(state.env), state.memory, state.frames
        self._ended = state.ended

    def _remember(self, observation: Any, action: Any) -> Any:
        self._frames, vectors = self._reader.read(observation, 1)
        self._memory = self._reader.commit(self._memory, self._frames, vectors, action)
        return self._reader.with_kept(row_of(self._reader.observe(self._memory, self._frames), 0), observation)


class VectorMemoryObservation(VectorWrapper):
    """`MemoryObservation` around a vector environment: one network call per step for all rows, in any autoreset mode.

    Where one step gives two frames of a row, an episode's last and the next one's first (same-step autoreset), each is
    committed to the memory of its own episode.

    Args:
        env: in any autoreset mode, see `rows.autoreset_mode_of`.
        checkpoint: run folder, packaged name or hub id.
        observation: "memory" or "both", as in `MemoryObservation`.
        device: of the model.
        engine: what runs it, see `DreamConfig`.
        keep: keys of the environments' Dict that the agent sees as well.

    Raises:
        FileNotFoundError, ValueError: as `MemoryObservation`.
    """

    def __init__(
        self,
        env: VectorEnv,
        checkpoint: str,
        observation: Kind = "memory",
        device: str = "cpu",
        engine: str = "auto",
        keep: Sequence[str] = (),
    ):
        super().__init__(env)
        single = env.single_observation_space, env.single_action_space
        self._reader = _Reader(env, *single, checkpoint, observation, device, engine, keep)
        self.autoreset_mode = autoreset_mode_of(env)
        self.single_observation_space = self._reader.observation_space
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._memory, self._frames = self._reader.blank(env.num_envs)
        self._ended = np.zeros(env.num_envs, bool)

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all rows, or those of `options["reset_mask"]` (n,) bool, and forget.

        Raises:
            ValueError: if the mask does not fit the rows.
        """
        mask = reset_mask(options, self.num_envs)  # before the environment takes it out of the options
        reseed: Any = seed  # VectorEnv takes a list as well as a number, its annotation does not say so
        observation, info = self.env.reset(seed=reseed, options=options)
        self._begin(mask, *self._reader.read(observation, self.num_envs))
        return self._reader.with_kept(self._reader.observe(self._memory, self._frames), observation), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all rows; those that this step reset forget first."""
        observation, rewards, terminated, truncated, info = self.env.step(actions)
        frames, vectors = self._reader.read(observation, self.num_envs)
        if self._ended.any():
            blank, _ = self._reader.blank(int(self._ended.sum()))
            self._memory = self._memory.put(torch.from_numpy(np.flatnonzero(self._ended)), blank)
        finished = terminated | truncated
        self._ended = finished & (self.autoreset_mode == AutoresetMode.NEXT_STEP)
        if self.autoreset_mode == AutoresetMode.SAME_STEP and finished.any():
            info = {**info, "final_obs": self._end(finished, info["final_obs"], frames, vectors, actions)}
            self._begin(finished, frames, vectors)
        else:
            self._frames = frames
            self._memory = self._reader.commit(self._memory, frames, vectors, actions)
        seen = self._reader.with_kept(self._reader.observe(self._memory, self._frames), observation)
        return seen, rewards, terminated, truncated, info

    def get_state(self) -> RealState[VectorEnv]:
        """Where all rows are, see `MemoryObservation.get_state`."""
        frames = self._frames.copy()
        return RealState(self._memory, self._reader.fingerprint, frames, self._ended, _copy(self.env))

    def set_state(self, state: RealState[VectorEnv]) -> None:
        """Go on from a state, see `MemoryObservation.set_state`."""
        self._reader.check_state(state, self.num_envs)
        self.env, self._memory, self._frames = _copy(state.env), state.memory, state.frames
        self._ended = state.ended

    def _end(self, finished: np.ndarray, final: Any, frames: np.ndarray, vectors: Any, actions: Any) -> np.ndarray:
        """Commit the frames that the actions led to; the last observations of the rows that ended in this step."""
        self._frames, last = frames.copy(), None if vectors is None else vectors.copy()
        for i in np.flatnonzero(finished).tolist():
            frame, vector = self._reader.read(final[i], 1)
            self._frames[i] = frame[0]
            if last is not None and vector is not None:
                last[i] = vector[0]
        self._memory = self._reader.commit(self._memory, self._frames, last, actions)
        seen = self._reader.observe(self._memory, self._frames)
        observations = np.full(self.num_envs, None, object)
        for i in np.flatnonzero(finished).tolist():
            observations[i] = self._reader.with_kept(row_of(seen, i), final[i])
        return observations

    def _begin(self, mask: np.ndarray, frames: np.ndarray, vectors: np.ndarray | None) -> None:
        """Forget, and commit the first frames of the rows of the mask."""
        memory, _ = self._reader.blank(int(mask.sum()))
        memory = self._reader.commit(memory, frames[mask], None if vectors is None else vectors[mask], None)
        self._memory = self._memory.put(torch.from_numpy(np.flatnonzero(mask)), memory)
        self._frames = np.where(mask[:, None, None, None], frames, self._frames)
        self._ended = self._ended & ~mask


class _Reader:
    """The model beside an environment: it reads observations and commits them to a memory. It never changes."""

    def __init__(
        self,
        env: gym.Env | VectorEnv,
        observations: gym.Space,
        actions: gym.Space,
        checkpoint: str,
        observation: str,
        device: str,
        engine: str,
        keep: Sequence[str],
    ):
        if observation not in ("memory", "both"):
            raise ValueError(f"Observation {observation!r} is unknown here; use memory or both.")
        self._shared = shared_engine(checkpoint, device, engine)
        self.model, self.fingerprint = self._shared.model, self._shared.fingerprint
        self.image = image_key(observations)
        self.image_space = image_of(observations, self.image)
        check_fits(self.model.config, image_shape(observations), space_to_json(actions), str(env))
        self.kind: Kind = "memory" if observation == "memory" else "both"
        self.keep = _kept(observations, self.image, keep)
        self.observation_space = observation_space(self.model, self.kind)
        if self.keep:
            own: Any = self.observation_space if self.kind == "both" else {"memory": self.observation_space}
            every: Any = observations
            self.observation_space = gym.spaces.Dict({**own, **{key: every[key] for key in self.keep}})
        self.action_shape, self.action_dtype = action_layout(space_from_json(self.model.config.action_space))
        keys = vector_keys_of(checkpoint, self.model)
        self.vector_keys = () if unseen(keys, observations) else keys

    def __deepcopy__(self, memo: dict[int, Any]) -> _Reader:
        return self  # copies of an environment share the model

    def blank(self, n: int) -> tuple[Memory, np.ndarray]:
        """Memory and frames of n rows that have seen nothing."""
        return self.model.initial_memory(n), np.zeros((n, *self.model.config.frame_shape), np.uint8)

    def read(self, observation: Any, n: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The frames (n, H, W, C) in an observation of n rows, or of one, and the vectors (n, V) if it holds them."""
        images = np.asarray(image_of(observation, self.image))
        check_image(images[0] if images.ndim > len(self.image_space.shape) else images, self.image_space)
        frames = images.reshape(n, *self.model.config.frame_shape)
        parts = [read_vector(key, observation, {}, n) for key in self.vector_keys]
        return frames, np.concatenate(parts, axis=1) if parts else None

    def commit(self, memory: Memory, frames: np.ndarray, vectors: np.ndarray | None, actions: Any) -> Memory:
        """Commit one frame per row; actions (n[, A]), or None where every row's frame is its first."""
        shape, device = (len(frames), *self.action_shape), self.model.device
        moves = np.zeros(shape) if actions is None else np.asarray(actions).reshape(shape)
        tensors = [np.ascontiguousarray(frames), moves.astype(self.action_dtype)]
        images, moved = (torch.from_numpy(array).to(device)[:, None] for array in tensors)
        numbers = None if vectors is None else torch.from_numpy(vectors).to(device)[:, None]
        stay_able_to_run()
        return self._shared.engine.observe(memory, images, moved, numbers)[0]

    def observe(self, memory: Memory, frames: np.ndarray) -> Any:
        """What the agent sees of n rows."""
        return make_observation(frames.copy(), memory.readout(), self.kind)

    def with_kept(self, seen: Any, observation: Any) -> Any:
        """What the agent sees, with what is kept of the observation, single or of n rows."""
        if not self.keep:
            return seen
        kept = {key: copy.deepcopy(observation[key]) for key in self.keep}  # they may be the environment's own buffers
        return {**(seen if isinstance(seen, dict) else {"memory": seen}), **kept}

    def check_state(self, state: RealState[Any], n: int) -> None:
        """Raise ValueError unless a state is of n rows and of this model."""
        self._shared.check_memory(state.memory, state.model, n)


def _kept(observations: gym.Space, image: str | None, keep: Sequence[str]) -> tuple[str, ...]:
    """The keys to keep; ValueError if one is not there, or has the name of what is put beside it."""
    if isinstance(keep, str):
        raise ValueError(f"keep is the text {keep!r}; give a list of keys, such as [{keep!r}].")
    there = [key for key in getattr(observations, "spaces", ()) if key not in (image, "image", "memory")]
    for key in keep:
        if key not in there:
            raise ValueError(f"There is no {key!r} to keep in {observations}; use {', '.join(there) or 'none'}.")
    return tuple(keep)


def _copy(env: E) -> E:
    try:
        return copy.deepcopy(env)
    except Exception as error:  # whatever a part of the environment raises when it is copied
        raise ValueError(f"{env} cannot be copied ({error!r}), so its states cannot be kept.") from error
