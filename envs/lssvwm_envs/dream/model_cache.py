"""One loaded world model per checkpoint and device, shared by all environments of a process."""

from __future__ import annotations

import functools
from pathlib import Path

from lssvwm_rl.model.checkpoint_files import WEIGHTS, resolve_checkpoint
from lssvwm_rl.model.checkpoints import earlier_fingerprint, fingerprint, load_world_model
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel


def shared_model(checkpoint: str | Path, device: str = "cpu", compiled: bool = False) -> WorldModel:
    """The checkpoint's model; loaded again only if its file has changed. Models hold weights only, so sharing is safe.

    Raises:
        FileNotFoundError, ValueError: as `WorldModel.from_pretrained`.
    """
    return _load(*_version(checkpoint), device, compiled)


@functools.lru_cache(maxsize=4)
def shared_fingerprint(model: WorldModel) -> str:
    """`checkpoints.fingerprint` of a shared model, computed once."""
    return fingerprint(model)


def check_memory(memory: Memory, origin: str, model: WorldModel, rows: int, checkpoint: str | None = None) -> None:
    """Check the memory in a state before an environment goes on from it.

    Args:
        origin: fingerprint of the model whose memory it is.
        rows: how many the environment needs.
        checkpoint: of the model; states that earlier versions saved name it by another fingerprint.

    Raises:
        ValueError: if it is another model's, or of another number of rows.
    """
    own = shared_fingerprint(model)
    same = origin == own or (checkpoint is not None and origin == _earlier_fingerprint(*_version(checkpoint)))
    if not same or memory.batch_size != rows:
        raise ValueError(
            f"The state has {memory.batch_size} rows of memory of model {origin}, needed are {rows} of {own}; restore "
            "it in an env with the checkpoint it came from."
        )


def _version(checkpoint: str | Path) -> tuple[Path, int]:
    """A checkpoint's folder, and when its weights were last written."""
    folder = resolve_checkpoint(checkpoint).resolve()
    weights = folder / WEIGHTS
    return folder, weights.stat().st_mtime_ns if weights.is_file() else 0


@functools.lru_cache(maxsize=4)
def _earlier_fingerprint(folder: Path, changed: int) -> str | None:
    return earlier_fingerprint(folder)


@functools.lru_cache(maxsize=4)
def _load(folder: Path, changed: int, device: str, compiled: bool) -> WorldModel:
    return load_world_model(folder, device, compiled)
