"""DreamState: a point in a dream as a value, and as a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from lssvwm_rl.files import written_whole
from lssvwm_rl.model.checkpoint_tensors import check_finite, load_tensors, save_tensors
from lssvwm_rl.model.memory import Memory

FORMAT_VERSION = 1


@dataclass(frozen=True)
class DreamState:
    """Everything that decides how a dream goes on; constant in size however long the dream."""

    memory: Memory
    """One row."""
    model: str
    """`checkpoints.fingerprint` of the model whose memory it is."""
    frame: np.ndarray
    """(H, W, C) uint8, the last observation."""
    steps: int
    """Dreamt since the reset."""
    ended: bool
    """Whether the dream has ended and waits for its reset."""
    noise: np.ndarray
    """State of the denoising noise's generator, uint8."""
    np_random: dict[str, Any]
    """State of the environment's generator, which draws contexts."""

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, which appears whole or not at all; an older one of that name is replaced.

        Raises:
            IsADirectoryError: if the path is a folder.
        """
        path = Path(path)
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder; name a file, such as {path / 'state.safetensors'}.")
        plain = {name: getattr(self, name) for name in ("model", "steps", "ended", "np_random")}
        arrays = {"frame": torch.from_numpy(self.frame), "noise": torch.from_numpy(self.noise)}
        memory = {f"memory.{name}": tensor for name, tensor in self.memory.tensors().items()}
        tensors = {name: tensor.contiguous() for name, tensor in {**memory, **arrays}.items()}
        with written_whole(path) as temporary:
            save_tensors(tensors, temporary, {"dream_state": json.dumps({"format_version": FORMAT_VERSION, **plain})})

    @classmethod
    def load(cls, path: str | Path) -> DreamState:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is broken, or something else.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no dream state {path}; write one with save_state or DreamState.save.")
        try:
            tensors, metadata = load_tensors(path)
            check_finite(tensors)
            plain = json.loads(metadata["dream_state"])
            if plain.pop("format_version") != FORMAT_VERSION:
                raise ValueError(f"its format is not version {FORMAT_VERSION}")
            frame, noise = tensors.pop("frame").numpy(), tensors.pop("noise").numpy()
            memory = Memory.from_tensors({name.removeprefix("memory."): tensor for name, tensor in tensors.items()})
            return cls(memory, frame=frame, noise=noise, **plain)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a dream state ({error!r}); save it again.") from error
