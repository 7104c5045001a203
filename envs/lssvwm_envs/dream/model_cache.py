"""One loaded world model per checkpoint and device, shared by all environments of a process."""

from __future__ import annotations

import functools
from pathlib import Path

from lssvwm_rl.model.checkpoint_files import WEIGHTS, resolve_checkpoint
from lssvwm_rl.model.checkpoints import fingerprint, load_world_model
from lssvwm_rl.model.world_model import WorldModel


def shared_model(checkpoint: str | Path, device: str = "cpu", compiled: bool = False) -> WorldModel:
    """The checkpoint's model; loaded again only if its file has changed. Models hold weights only, so sharing is safe.

    Raises:
        FileNotFoundError, ValueError: as `WorldModel.from_pretrained`.
    """
    folder = resolve_checkpoint(checkpoint).resolve()
    weights = folder / WEIGHTS
    changed = weights.stat().st_mtime_ns if weights.is_file() else 0
    return _load(folder, changed, device, compiled)


@functools.lru_cache(maxsize=4)
def shared_fingerprint(model: WorldModel) -> str:
    """`checkpoints.fingerprint` of a shared model, computed once."""
    return fingerprint(model)


@functools.lru_cache(maxsize=4)
def _load(folder: Path, changed: int, device: str, compiled: bool) -> WorldModel:
    return load_world_model(folder, device, compiled)
