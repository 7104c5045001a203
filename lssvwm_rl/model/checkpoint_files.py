"""Where checkpoints are found, and the names of the files in them."""

from __future__ import annotations

from pathlib import Path

from lssvwm_rl.model.hub import PREFIX, download

ASSETS = Path(__file__).parents[1] / "assets"
MODEL_CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CONTEXTS = "contexts"  # an episode store of held-out episodes, which dreams start from
DOUBT = "doubt.json"  # quantiles of doubt over held-out frames
ENV_FILE = "env.json"  # EnvSpec of the environment that the data came from


def resolve_checkpoint(name: str | Path) -> Path:
    """Folder of a checkpoint: a run folder, the name of a packaged checkpoint, or "hub:owner/name" of the Hugging Face
    hub, from which it is downloaded.

    Raises:
        FileNotFoundError: if there is none of that name.
        ValueError, gymnasium.error.DependencyNotInstalled: as `hub.download`.
    """
    if str(name).startswith(PREFIX):
        folder = download(str(name))
        if not (folder / MODEL_CONFIG).is_file():
            raise FileNotFoundError(f"{name} holds no checkpoint ({MODEL_CONFIG} is missing); choose another model.")
        return folder
    folder = Path(name)
    packaged = ASSETS / folder
    for candidate in (folder, packaged):
        if (candidate / MODEL_CONFIG).is_file():
            return candidate
    if folder.is_dir():
        raise FileNotFoundError(
            f"{folder} holds no finished checkpoint (config.json is missing); train one there first."
        )
    packages = sorted(p.parent.name for p in ASSETS.glob(f"*/{MODEL_CONFIG}"))
    hub = len(folder.parts) == 2 and not folder.is_absolute() and folder.parts[0] not in (".", "..", "runs")
    raise FileNotFoundError(
        f"There is no checkpoint {str(name)!r}; give a run folder made by `lssvwm train`"
        + (f" or one of {', '.join(packages)}" if packages else "")
        + (f", or {PREFIX}{folder.as_posix()} if it is a model of the Hugging Face hub." if hub else ".")
    )
