"""One engine per checkpoint, device and kind of engine, with all that environments of a process have in common."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from lssvwm_envs.dream.beginnings import Beginnings
from lssvwm_envs.dream.forks import stay_able_to_run
from lssvwm_rl.model.checkpoint_files import CONTEXTS, WEIGHTS, resolve_checkpoint
from lssvwm_rl.model.checkpoints import earlier_fingerprint, fingerprint, load_engine
from lssvwm_rl.model.doubt import DoubtScale, load_scale
from lssvwm_rl.model.engine import Engine
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel


def shared_engine(checkpoint: str | Path, device: str = "cpu", engine: str = "auto") -> SharedEngine:
    """The checkpoint's engine; loaded again only if its file has changed.

    Raises:
        FileNotFoundError, ValueError: as `load_engine`.
    """
    stay_able_to_run()
    folder = resolve_checkpoint(checkpoint).resolve()
    weights = folder / WEIGHTS
    changed = weights.stat().st_mtime_ns if weights.is_file() else 0
    # Compiled code has its number of threads written into it, which a forked process cannot have.
    process = os.getpid() if engine == "compiled" else 0
    return _load(folder, changed, device, engine, process)


class SharedEngine:
    """An engine, and what is known about its checkpoint. All of it are values, so sharing is safe.

    Attributes:
        engine: holds weights only.
        beginnings: of dreams in the checkpoint's own contexts.
    """

    def __init__(self, folder: Path, engine: Engine):
        self.engine, self._folder = engine, folder
        self.beginnings = Beginnings(engine)
        self._scales: dict[int, DoubtScale | None] = {}

    @property
    def model(self) -> WorldModel:
        """Whose weights the engine has; not to be changed."""
        return self.engine.model

    @functools.cached_property
    def fingerprint(self) -> str:
        """`checkpoints.fingerprint` of the model."""
        return fingerprint(self.model)

    def doubt_scale(self, denoise_steps: int, required: bool = False) -> DoubtScale | None:
        """The checkpoint's scale of doubt, on the model's device; see `doubt.load_scale`.

        Raises:
            ValueError: if its file is broken, or there is none though it is required.
        """
        if denoise_steps not in self._scales:
            scale = load_scale(self._folder, self.model, denoise_steps)
            self._scales[denoise_steps] = None if scale is None else scale.to(self.model.device)
        if required and self._scales[denoise_steps] is None:
            raise ValueError(
                f"Checkpoint {self._folder} has no episodes to measure doubt with; leave doubt_limit and doubt_penalty "
                f"out, or put an episode store at {self._folder / CONTEXTS}."
            )
        return self._scales[denoise_steps]

    def check_memory(self, memory: Memory, origin: str, rows: int) -> None:
        """Check the memory in a state before an environment goes on from it.

        Args:
            origin: fingerprint of the model whose memory it is; states that earlier versions saved name it by another.
            rows: how many the environment needs.

        Raises:
            ValueError: if it is another model's, or of another number of rows.
        """
        if (origin != self.fingerprint and origin != self._earlier_fingerprint) or memory.batch_size != rows:
            raise ValueError(
                f"The state has {memory.batch_size} rows of memory of model {origin}, needed are {rows} of "
                f"{self.fingerprint}; restore it in an env with the checkpoint it came from."
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedEngine:
        return self  # copies of an environment share it, too

    @functools.cached_property
    def _earlier_fingerprint(self) -> str | None:
        return earlier_fingerprint(self._folder)


@functools.lru_cache(maxsize=4)
def _load(folder: Path, changed: int, device: str, engine: str, process: int) -> SharedEngine:
    return SharedEngine(folder, load_engine(folder, device, engine))
