"""A checkpoint's config and weights, read and written; apart from `checkpoint_files`, which needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lssvwm_rl.checked_text import check_texts, remove_checked, write_checked
from lssvwm_rl.files import written_whole
from lssvwm_rl.model.checkpoint_files import DOUBT, MODEL_CONFIG, WEIGHTS
from lssvwm_rl.model.checkpoint_tensors import check_finite, load_tensors, save_tensors
from lssvwm_rl.model.config import WorldModelConfig

RENAMED = {"token_readout.": "token_features.", "readout_mlp.": "feature_mlp."}  # since format 2
ENDED, BESIDE_IT = "reward_head.ended", "reward_head.mlp.0.bias"  # `RewardHead.ended`, and what has its shape


def read_checkpoint(folder: Path) -> tuple[WorldModelConfig, dict[str, Tensor]]:
    """What `write_checkpoint`, of this version or an earlier one, wrote to a folder.

    Raises:
        ValueError: if it is broken, or a file of it has changed since.
    """
    try:
        check_texts(folder)
        config = WorldModelConfig.from_json((folder / MODEL_CONFIG).read_text())
        return config, weights_as_now(load_tensors(folder / WEIGHTS)[0])
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"Checkpoint {folder} is not whole ({reason}); train or download it again.") from error


def weights_as_now(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a world model, or of one in a module, as this version names them, whatever version saved them.

    Those of versions whose reward head was not told whether the frame ended the episode get zeros, with which it says
    what it said.
    """
    found = {}
    for name, weight in weights.items():
        for old, new in RENAMED.items():
            name = name.replace(old, new)
        found[name] = weight
    for name in [name for name in found if name.endswith(BESIDE_IT)]:
        found.setdefault(name.removesuffix(BESIDE_IT) + ENDED, torch.zeros_like(found[name]))
    return found


def write_checkpoint(folder: Path, config: WorldModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Write config.json and model.safetensors; each appears whole or not at all. A scale of doubt there is removed: it
    was that of other weights."""
    remove_checked(folder / DOUBT)
    with written_whole(folder / WEIGHTS) as path:
        save_tensors(weights, path)
    write_checked(folder / MODEL_CONFIG, config.to_json())


def load_weights(model: nn.Module, config: WorldModelConfig, weights: dict[str, Tensor], folder: Path) -> None:
    """Put the weights of a checkpoint into a model made from its config.

    Raises:
        ValueError: if they are not those of such a model, or not finite.
    """
    try:
        check_finite(weights)
    except ValueError as error:
        raise ValueError(f"The weights in {folder} are of no use ({error}); train or download it again.") from error
    try:
        for name, tensor in model.state_dict().items():
            found = weights.get(name, tensor)
            if found.is_floating_point() != tensor.is_floating_point():
                raise RuntimeError(f"{name} is {found.dtype}, not {tensor.dtype}")
        model.load_state_dict(weights)
    except RuntimeError as error:
        kind, layers = config.backbone.kind, len(config.backbone.blocks)
        mismatch = " ".join(str(error).split(":", 1)[-1].split())
        raise ValueError(
            f"The weights in {folder} are not those of its config.json, of kind {kind!r} with {layers} layers "
            f"({mismatch[:200]}...); put the config.json back that they were saved with."
        ) from error
