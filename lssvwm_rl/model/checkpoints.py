"""Checkpoints: their model, its fingerprint, their held-out episodes, and whether they fit an environment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lssvwm_rl.data.shards import shard_numbers
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.checkpoint_files import CONTEXTS, MODEL_CONFIG, WEIGHTS, resolve_checkpoint
from lssvwm_rl.model.checkpoint_tensors import load_tensors
from lssvwm_rl.model.checkpoint_weights import ENDED
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.engine import Engine, make_engine
from lssvwm_rl.model.world_model import WorldModel


def load_world_model(name: str | Path, device: str = "cpu") -> WorldModel:
    """A checkpoint's model in evaluation mode.

    Raises:
        FileNotFoundError, ValueError: as `WorldModel.from_pretrained`.
    """
    return WorldModel.from_pretrained(name).to(device)


def load_engine(name: str | Path, device: str = "cpu", engine: str = "auto") -> Engine:
    """What runs a checkpoint's model.

    Args:
        engine: see `engine.make_engine`.

    Raises:
        FileNotFoundError, ValueError: as `WorldModel.from_pretrained` and `make_engine`.
    """
    return make_engine(load_world_model(name, device), engine)


def fingerprint(model: WorldModel, exported: bool = False) -> str:
    """Short hash of a model's config and weights: the same wherever and whenever the checkpoint is loaded, and by
    whatever version of this library.

    Args:
        exported: of the weights in half precision, so that a run and what was exported of it have the same.
    """
    weights = model.state_dict()
    if exported:
        weights = {name: t.half() if t.is_floating_point() else t for name, t in weights.items()}
    if not weights[ENDED].any():  # which earlier versions did not have
        del weights[ENDED]
    return _hash(model.config.to_json(), weights)


def earlier_fingerprint(name: str | Path) -> str | None:
    """What `fingerprint` was for a checkpoint of format 1 when that was the newest: states saved then name it.

    Returns:
        None for a checkpoint of a later format, of which there are no such states.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
    """
    folder = resolve_checkpoint(name)
    text = (folder / MODEL_CONFIG).read_text()
    if json.loads(text).get("format_version") != 1:
        return None
    weights, _ = load_tensors(folder / WEIGHTS)  # an exported checkpoint's are in half precision, the model's were not
    return _hash(text, {name: t.float() if t.is_floating_point() else t for name, t in weights.items()})


def _hash(config: str, weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(config.encode())
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def shown_by(folder: Path) -> list[object]:
    """Words of the command that shows a checkpoint: a video of a dream if it has episodes to begin in, else `play`,
    where a dream can begin in a picture."""
    if shard_numbers(folder / CONTEXTS):
        return ["lssvwm", "dream", "--checkpoint", folder]
    return ["lssvwm", "play", folder]


def load_contexts(name: str | Path) -> EpisodeStore:
    """The checkpoint's own held-out episodes.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if it has none, or they are broken.
    """
    folder = resolve_checkpoint(name)
    store = EpisodeStore(folder / CONTEXTS) if (folder / CONTEXTS).is_dir() else None
    if store is None or not len(store):
        raise ValueError(
            f"Checkpoint {folder} has no episodes to start dreams from; give real frames with "
            f'reset(options={{"context": (frames, actions)}}), or put an episode store at {folder / CONTEXTS}.'
        )
    return store


def vector_keys_of(name: str | Path, model: WorldModel) -> tuple[str, ...]:
    """Keys of the observation or of `info` that the model's vectors were made of; none if it takes none, or nothing
    says which."""
    if not model.config.vector_size or not (resolve_checkpoint(name) / CONTEXTS).is_dir():
        return ()
    return tuple(load_contexts(name).header.vector_keys)


def check_fits(
    config: WorldModelConfig, frame_shape: tuple[int, ...] | None, action_space: dict[str, Any], what: str
) -> None:
    """Raise ValueError unless frames and actions of `what` are those that the model was trained on."""
    if frame_shape is None or tuple(frame_shape) != tuple(config.frame_shape):
        raise ValueError(
            f"{what} has frames of shape {frame_shape}, the world model takes {config.frame_shape}; use the "
            "environment it was trained on."
        )
    if action_space != config.action_space:
        raise ValueError(
            f"{what} has the action space {action_space}, the world model {config.action_space}; use the environment "
            "it was trained on."
        )
