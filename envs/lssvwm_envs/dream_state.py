"""DreamState: a point in a dream as a value, and what single and batched dreams share."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.store import Episode, EpisodeStore
from lssvwm_rl.memory import Memory
from lssvwm_rl.world_model import WorldModel
from lssvwm_rl.world_model_config import WorldModelConfig

Observation = Literal["image", "memory", "both"]
TERMINATED_ABOVE = 0.5  # probability of the end at which a dream ends


@dataclass(frozen=True)
class DreamState:
    """Everything that decides how a dream goes on; constant in size however long the dream."""

    memory: Memory
    model: str
    """`checkpoints.fingerprint` of the model whose memory it is."""
    frame: np.ndarray
    """(H, W, C) uint8, the last observation."""
    steps: int
    """Dreamt since the reset."""
    ended: bool
    noise: np.ndarray
    """State of the denoising noise's generator, uint8."""
    np_random: dict[str, Any]
    """State of the environment's generator, which draws contexts."""

    def save(self, folder: str | Path) -> None:
        """Write memory.safetensors and state.json to a folder; each appears whole or not at all."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.memory.save(folder / "memory.safetensors")
        state = {
            "model": self.model,
            "frame": self.frame.tolist(),
            "steps": self.steps,
            "ended": self.ended,
            "noise": self.noise.tolist(),
            "np_random": self.np_random,
        }
        temporary = folder / ".tmp-state.json"
        temporary.write_text(json.dumps(state))
        os.replace(temporary, folder / "state.json")

    @classmethod
    def load(cls, folder: str | Path) -> DreamState:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is broken.
        """
        path = Path(folder) / "state.json"
        if not path.is_file():
            raise FileNotFoundError(f"There is no dream state in {folder}; write one with DreamState.save.")
        memory = Memory.load(Path(folder) / "memory.safetensors")
        try:
            state = json.loads(path.read_text())
            frame, noise = (np.array(state[name], np.uint8) for name in ("frame", "noise"))
            plain = {name: state[name] for name in ("model", "steps", "ended", "np_random")}
            return cls(memory, frame=frame, noise=noise, **plain)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a dream state ({error!r}); save it again.") from error


def observation_space(config: WorldModelConfig, observation: Observation) -> gym.Space:
    """Image Box uint8, memory Box float32 in [-1, 1], or a Dict of both.

    Raises:
        ValueError: for another kind of observation.
    """
    parts: dict[str, gym.Space] = {
        "image": spaces.Box(0, 255, config.frame_shape, np.uint8),
        "memory": spaces.Box(-1, 1, (config.readout_size,), np.float32),
    }
    if observation == "both":
        return spaces.Dict(parts)
    if observation not in parts:
        raise ValueError(f"Observation {observation!r} is unknown; use image, memory or both.")
    return parts[observation]


def make_observation(frame: np.ndarray, readout: np.ndarray, observation: Observation) -> Any:
    """The observation of one row or of a batch of rows."""
    parts = {"image": frame, "memory": readout}
    return parts if observation == "both" else parts[observation]


def draw_context(contexts: EpisodeStore, length: int, rng: np.random.Generator) -> tuple[int, Episode]:
    """A random held-out episode, cut to its first `length` frames (fewer if it is shorter)."""
    index = int(rng.integers(len(contexts)))
    return index, contexts.read(index, 0, min(length, int(contexts.lengths[index])))


def observe_contexts(model: WorldModel, contexts: Sequence[Episode]) -> tuple[Memory, np.ndarray]:
    """Memories after the contexts' last frames, and these frames (n, H, W, C); contexts of one length share a call."""
    memories: list[Memory | None] = [None] * len(contexts)
    for length in sorted({len(c.frames) for c in contexts}):
        rows = [i for i, c in enumerate(contexts) if len(c.frames) == length]
        batch = clip_batch([contexts[i] for i in rows], length).to(model.device)
        memory, _ = model.observe(model.initial_memory(len(rows)), batch.frames, batch.actions, batch.vectors)
        for k, i in enumerate(rows):
            memories[i] = memory.select(torch.tensor([k]))
    whole = Memory.concatenate([m for m in memories if m is not None])
    return whole, np.stack([c.frames[-1] for c in contexts])
