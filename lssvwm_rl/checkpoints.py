"""Where checkpoints are found, and whether they fit an environment or a store."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lssvwm_rl.data.store import EpisodeStore

if TYPE_CHECKING:
    from lssvwm_rl.world_model import WorldModel
    from lssvwm_rl.world_model_config import WorldModelConfig

ASSETS = Path(__file__).parent / "assets"
MODEL_CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CONTEXTS = "contexts"  # an episode store of held-out episodes, which dreams start from
ENV_FILE = "env.json"  # EnvSpec of the environment that the data came from


def resolve_checkpoint(name: str | Path) -> Path:
    """Folder of a checkpoint: a run folder, the name of a packaged checkpoint, or a Hugging Face id "owner/name".

    Raises:
        FileNotFoundError: if there is none of that name.
    """
    folder = Path(name)
    packaged = ASSETS / folder
    for candidate in (folder, packaged):
        if (candidate / MODEL_CONFIG).is_file():
            return candidate
    if folder.is_dir():
        raise FileNotFoundError(
            f"{folder} holds no finished checkpoint (config.json is missing); train one there first."
        )
    if len(folder.parts) == 2 and not folder.is_absolute() and folder.parts[0] not in (".", "..", "runs"):
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(str(name)))
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise FileNotFoundError(
                f"No checkpoint folder and no downloadable model {str(name)!r} ({reason})."
            ) from error
    packages = sorted(p.parent.name for p in ASSETS.glob(f"*/{MODEL_CONFIG}"))
    raise FileNotFoundError(
        f"There is no checkpoint {str(name)!r}; give a run folder made by `lssvwm train`"
        + (f" or one of {', '.join(packages)}." if packages else ".")
    )


def load_world_model(name: str | Path, device: str = "cpu", compiled: bool = False) -> WorldModel:
    """A checkpoint's model in evaluation mode.

    Args:
        compiled: whether it dreams through torch.compile, see `compile_dreaming`.

    Raises:
        FileNotFoundError, ValueError: as `WorldModel.from_pretrained`.
    """
    from lssvwm_rl.world_model import WorldModel

    model = WorldModel.from_pretrained(name).to(device)
    if not compiled:
        return model
    from lssvwm_rl.compiled import compile_dreaming

    return compile_dreaming(model)


def fingerprint(model: WorldModel) -> str:
    """Short hash of a model's config and weights: the same wherever and whenever the checkpoint is loaded."""
    digest = hashlib.sha256(model.config.to_json().encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


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
