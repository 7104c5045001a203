"""A checkpoint's config and weights, read and written; apart from `checkpoint_files`, which needs no PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor, nn

from lssvwm_rl.checked_text import check_texts, remove_checked, write_checked
from lssvwm_rl.files import written_whole
from lssvwm_rl.model.checkpoint_files import DOUBT, MODEL_CONFIG, WEIGHTS
from lssvwm_rl.model.checkpoint_tensors import check_finite, has_checksum, load_tensors, save_tensors
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.shapes import check_shapes, shapes_in

RENAMED = {"token_readout.": "token_features.", "readout_mlp.": "feature_mlp."}  # since format 2
ENDED, BESIDE_IT = "reward_head.ended", "reward_head.mlp.0.bias"  # `RewardHead.ended`, and what has its shape


def read_checkpoint(
    folder: Path, make: Callable[[WorldModelConfig], nn.Module]
) -> tuple[WorldModelConfig, dict[str, Tensor]]:
    """What `write_checkpoint`, of this version or an earlier one, wrote to a folder.

    Args:
        make: makes a model of a config; it is only made without numbers, to compare shapes before anything is read.

    Raises:
        ValueError: if it is broken, or a file of it has changed since.
    """
    try:
        check_checkpoint_texts(folder)
        config = WorldModelConfig.from_json((folder / MODEL_CONFIG).read_text())
        shapes = weights_as_now(shapes_in(folder / WEIGHTS))
    except (OSError, ValueError, SafetensorError) as error:
        raise _not_whole(folder, error) from error
    kind, layers = config.backbone.kind, len(config.backbone.blocks)
    try:
        check_shapes(lambda: make(config), layers, shapes)
    except ValueError as error:
        raise ValueError(
            f"The weights in {folder} are not those of its config.json, of kind {kind!r} with {layers} layers "
            f"({error}); put the config.json back that they were saved with."
        ) from error
    try:
        return config, weights_as_now(load_tensors(folder / WEIGHTS)[0])
    except (OSError, ValueError, SafetensorError) as error:
        raise _not_whole(folder, error) from error


def check_checkpoint_texts(folder: Path) -> None:
    """`check_texts` of a checkpoint, or of a run that has none yet: where the weights have a checksum, config.json has.

    Raises:
        ValueError: as `check_texts`.
        SafetensorError, OSError: if the weights are no whole safetensors file.
    """
    both = (folder / MODEL_CONFIG).is_file() and (folder / WEIGHTS).is_file()
    check_texts(folder, (MODEL_CONFIG,) if both and has_checksum(folder / WEIGHTS) else ())


def _not_whole(folder: Path, error: Exception) -> ValueError:
    what = f"{WEIGHTS}: " if isinstance(error, SafetensorError) else ""  # all other errors name their file
    return ValueError(
        f"Checkpoint {folder} is not whole ({what}{str(error).splitlines()[0]}); train or download it again."
    )


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
        found.setdefault(name.removesuffix(BESIDE_IT) + ENDED, found[name].new_zeros(found[name].shape))
    return found


def write_checkpoint(folder: Path, config: WorldModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Write config.json and model.safetensors; each appears whole or not at all. A scale of doubt there is removed: it
    was that of other weights."""
    remove_checked(folder / DOUBT)
    with written_whole(folder / WEIGHTS) as path:
        save_tensors(weights, path)
    write_checked(folder / MODEL_CONFIG, config.to_json())


def load_weights(model: nn.Module, weights: dict[str, Tensor], folder: Path) -> None:
    """Put the weights of a checkpoint, with the shapes of its config, into a model made from that.

    Raises:
        ValueError: if they are other kinds of numbers, or not finite.
    """
    try:
        check_finite(weights)
    except ValueError as error:
        raise ValueError(f"The weights in {folder} are of no use ({error}); train or download it again.") from error
    for name, tensor in model.state_dict().items():
        if weights[name].is_floating_point() != tensor.is_floating_point():
            raise ValueError(
                f"The weights in {folder} are not those of its config.json ({name} is {weights[name].dtype}, not "
                f"{tensor.dtype}); train or download it again."
            )
    model.load_state_dict(weights)
