"""Reading memories: a policy that does as one that reads frames, and what there is to read in real episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy

from lssvwm_agents.extractors import Standardised
from lssvwm_agents.planning.mpc import fitting_frames, given_vectors
from lssvwm_envs.observation import make_observation
from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.store import Episode, EpisodeStore
from lssvwm_rl.model.engine import Engine, engine_of
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.policy import Policy
from lssvwm_rl.spaces import action_layout, counted_from, space_from_json

MEASURED = 128  # episodes


@dataclass(frozen=True)
class Remembered:
    """What `RememberingPolicy` carries from one call of `predict` to the next, n rows."""

    memory: Memory
    actions: np.ndarray
    """(n[, A]), of the last call."""


class RememberingPolicy:
    """A world model observes, and the policy reads the memory: Stable-Baselines3's `predict` on frames.

    Args:
        policy: reads the readout (n, R') float32 of a memory.
        model: whose memory it is, or the engine that runs it.
        observation: "both" if the policy reads a dict of image and memory.
        vector_keys: see `mpc.given_vectors`.
    """

    def __init__(
        self,
        policy: Policy,
        model: WorldModel | Engine,
        observation: Literal["memory", "both"] = "memory",
        vector_keys: Sequence[str] = (),
    ):
        self.policy, self.engine, self.observation = policy, engine_of(model), observation
        self.vector_keys = tuple(vector_keys)
        self.action_space = space_from_json(self.engine.model.config.action_space)
        self._shape, self._dtype = action_layout(self.action_space)

    def predict(
        self,
        observation: Any,
        state: Remembered | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Remembered]:
        """Commit a frame per row and act.

        Args:
            observation: (n, H, W, C) uint8 images, or a dict with exactly one such array.
            state: what the previous call returned; None starts every row afresh.
            episode_start: (n,) bool, rows that forget first.

        Raises:
            ValueError: if the images do not fit the model.
        """
        model = self.engine.model
        images = fitting_frames(model, observation)
        frames = torch.from_numpy(images).to(model.device)
        n = len(frames)
        if state is None:
            state = Remembered(model.initial_memory(n), np.zeros((n, *self._shape), self._dtype))
        elif episode_start is not None and episode_start.any():
            rows = torch.from_numpy(np.flatnonzero(episode_start))
            state = Remembered(state.memory.put(rows, model.initial_memory(len(rows))), state.actions)
        last = torch.from_numpy(state.actions.astype(self._dtype)).to(model.device)
        vectors = given_vectors(model, observation, self.vector_keys)
        memory, _ = self.engine.observe(state.memory, frames[:, None], last[:, None], vectors)
        read = make_observation(images, memory.readout(), self.observation)
        actions, _ = self.policy.predict(read, None, None, deterministic)
        actions = counted_from(np.asarray(actions), self.policy, self.action_space)
        return actions, Remembered(memory, actions)


@torch.no_grad()
def readouts(
    model: WorldModel | Engine, episodes: Sequence[Episode], from_info: Sequence[str] = ()
) -> list[torch.Tensor]:
    """What policies read after every real frame of some episodes, of each (its frames, R') float32.

    Args:
        from_info: `StoreHeader.from_info`: where it names a key, the model predicts the vectors, as it does in reality.
    """
    engine = engine_of(model)
    batch = clip_batch(episodes, max(len(episode.frames) for episode in episodes)).to(engine.model.device)
    memory, parts = engine.model.initial_memory(len(episodes)), []
    for t in range(batch.mask.shape[1]):
        vectors = None if batch.vectors is None or from_info else batch.vectors[:, t : t + 1]
        memory, _ = engine.observe(memory, batch.frames[:, t : t + 1], batch.actions[:, t : t + 1], vectors)
        parts.append(memory.readout().float().cpu())
    found = torch.stack(parts, dim=1)
    return [found[row, : len(episode.frames)] for row, episode in enumerate(episodes)]


def standardise(policy: ActorCriticPolicy, model: WorldModel | Engine, store: EpisodeStore) -> None:
    """Fix what a new policy's extractor subtracts and divides by, from episodes spread over a store."""
    chosen = np.unique(np.linspace(0, len(store) - 1, MEASURED).astype(int))
    extractor = policy.features_extractor
    if not isinstance(extractor, Standardised):
        raise ValueError(f"A policy behind {type(extractor).__name__} has no moments to fix; use Standardised.")
    extractor.measure(torch.cat(readouts(model, [store[int(i)] for i in chosen], store.header.from_info)))
