"""Files of tensors that know what they held: safetensors with a SHA-256 of their content among their metadata."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

CHECKSUM = "sha256"  # in the metadata, of all tensors and of everything else in the metadata


def save_tensors(tensors: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file of tensors that share no storage.

    Args:
        metadata: kept beside the tensors.

    Raises:
        OSError: if it cannot be written.
    """
    path = Path(path)
    found = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    try:
        save_file(found, path, {**(metadata or {}), CHECKSUM: _checksum(found, metadata or {})})
    except SafetensorError as error:  # also where the disk is full
        raise OSError(f"{path} could not be written ({error}); free some space.") from error
    path.chmod(mode)  # safetensors' own lets nobody but its owner read a file


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, on the CPU, and metadata of what `save_tensors` or an earlier version wrote.

    Raises:
        ValueError: if they have changed since; of files of earlier versions that is not known.
        SafetensorError, OSError: if it is no whole safetensors file.
    """
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    known = metadata.pop(CHECKSUM, None)
    if known is not None and known != _checksum(tensors, metadata):
        raise ValueError(f"{Path(path).name} has changed since it was written: its {CHECKSUM} is another")
    return tensors, metadata


def has_checksum(path: str | Path) -> bool:
    """Whether a file is of a version that writes checksums: of this one and of the texts beside it.

    Raises:
        SafetensorError, OSError: if it is no whole safetensors file.
    """
    with safe_open(path, "pt") as file:
        return CHECKSUM in (file.metadata() or {})


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError naming a tensor that holds NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite")


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    layout = {name: (str(t.dtype), list(t.shape)) for name, t in tensors.items()}
    digest = hashlib.sha256(json.dumps([layout, dict(metadata)], sort_keys=True).encode())
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
