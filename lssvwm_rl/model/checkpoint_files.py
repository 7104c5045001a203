"""Where checkpoints are found, and the names of the files in them."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).parents[1] / "assets"
MODEL_CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CONTEXTS = "contexts"  # an episode store of held-out episodes, which dreams start from
DOUBT = "doubt.json"  # quantiles of doubt over held-out frames
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
