"""Gymnasium environments of lssvwm-rl; importing this registers them, as `import lssvwm_rl` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym

import lssvwm_rl  # noqa: F401  registers the environments


def register_checkpoint(id: str, checkpoint: str | Path, **settings: Any) -> None:
    """Give a checkpoint an id of its own: `gym.make(id)` and `gym.make_vec(id, num_envs=n)` then dream it.

    Args:
        id: such as "lssvwm/MyMaze-v0".
        checkpoint: run folder, packaged name or hub id. A folder is registered by its whole path, so that the id means
            the same wherever the process goes.
        settings: other arguments of `DreamEnv`, JSON values, which become the id's defaults.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        gymnasium.error.Error: if the id is malformed.
    """
    from lssvwm_rl.model.checkpoint_files import resolve_checkpoint

    dream = gym.spec("lssvwm/Dream-v0")
    folder = Path(checkpoint)
    resolve_checkpoint(checkpoint)
    gym.register(
        id,
        entry_point=dream.entry_point,
        vector_entry_point=dream.vector_entry_point,
        kwargs={"checkpoint": str(folder.resolve() if folder.is_dir() else checkpoint), **settings},
    )
