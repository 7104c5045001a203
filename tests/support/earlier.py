"""Folders as versions wrote them that knew no checksums."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from lssvwm_rl.checked_text import CHECKSUMS
from lssvwm_rl.model.checkpoint_tensors import load_tensors


def as_earlier_versions(folder: Path, weights: str) -> None:
    """Take the checksums away from a checkpoint or a policy: those of its texts, and that in its weights."""
    tensors, metadata = load_tensors(folder / weights)
    save_file(tensors, folder / weights, metadata or None)
    (folder / CHECKSUMS).unlink()
