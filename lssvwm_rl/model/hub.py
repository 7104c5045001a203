"""Checkpoints from the Hugging Face hub, by names that begin with "hub:"; no other name ever reaches the network."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from gymnasium.error import DependencyNotInstalled

PREFIX = "hub:"
# Weights and texts, and the numbers of the episodes that dreams begin in; nothing that a program would run.
PATTERNS = ("*.safetensors", "*.json", "*.yaml", "contexts/*.zarr/*/c/*")
_OWNER_AND_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def download(name: str) -> Path:
    """The folder of a checkpoint "hub:owner/name", downloaded once per process if it has changed.

    Raises:
        ValueError: if the name is not of that form.
        FileNotFoundError: if there is no such model, or it can neither be reached nor is it in the hub's cache.
        gymnasium.error.DependencyNotInstalled: if huggingface_hub is missing.
    """
    model = name.removeprefix(PREFIX)
    if not _OWNER_AND_NAME.fullmatch(model) or ".." in model:
        raise ValueError(f"{name!r} names no model of the hub; write {PREFIX}owner/name.")
    return _download(model)


@functools.cache
def _download(model: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise DependencyNotInstalled(
            f"{PREFIX}{model} needs huggingface_hub; install it with `pip install lssvwm-rl[hub]`."
        ) from error
    try:
        return Path(snapshot_download(model, allow_patterns=list(PATTERNS)))
    except Exception as error:  # of its HTTP client, too, of which there have been several
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FileNotFoundError(f"There is no model {model!r} on the hub that can be downloaded ({reason}).") from error
