"""A model of the hub as a folder of one's own: one commit of it, checked file by file, without anything that runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lssvwm_rl.data.episode import HEADER, StoreHeader
from lssvwm_rl.files import check_new, remove, write_text, written_whole
from lssvwm_rl.model.checkpoint_files import CONTEXTS, ENV_FILE, MODEL_CONFIG, WEIGHTS
from lssvwm_rl.model.hub import check_path, client, hub_errors, is_shared, split_name
from lssvwm_rl.model.world_model import WorldModel

HUB_FILE = "hub.json"
"""Which model and commit a folder was pulled from, and the SHA-256 of every file."""


def pull(name: str, out: Path, show: Callable[[int, int, str], None] = lambda done, total, note: None) -> str:
    """Download the checkpoint "owner/name[@revision]" to a new folder, which appears whole or not at all.

    Every file is compared with the hash that the hub has of it in that commit, git's or, for large files, the SHA-256;
    and the checkpoint is read once, which compares it with its own checksums.

    Args:
        show: is called with the files done, of how many, and the name of the next one.

    Returns:
        The commit, also written to `HUB_FILE`.

    Raises:
        ValueError: if the name is not of that form, a file is not what the hub says, or names code.
        FileExistsError: if `out` exists.
        FileNotFoundError, PermissionError, ConnectionError: as `hub.hub_errors`, the first also if it is no checkpoint.
        gymnasium.error.DependencyNotInstalled: if huggingface_hub is missing.
    """
    check_new(out)
    model, revision = split_name(name)
    hub = client(model)
    with hub_errors(model, revision):
        api = hub.HfApi()
        commit = api.model_info(model, revision=revision).sha
        entries = list(api.list_repo_tree(model, recursive=True, revision=commit))
    # What an earlier folder was pulled from is of no interest.
    files = {e.path: e for e in entries if isinstance(e, hub.RepoFile) and is_shared(e.path) and e.path != HUB_FILE}
    for path in files:
        check_path(path)
    if not {MODEL_CONFIG, WEIGHTS} <= set(files):
        raise FileNotFoundError(f"{name} holds no checkpoint ({MODEL_CONFIG} or {WEIGHTS} is missing); choose another.")
    with written_whole(out) as partial:
        partial.mkdir()
        for i, path in enumerate(sorted(files)):
            show(i, len(files), path)
            with hub_errors(model, revision):
                hub.hf_hub_download(model, path, revision=commit, local_dir=partial)
        show(len(files), len(files), "")
        remove(partial / ".cache")  # of huggingface_hub
        sums = {path: _checked(partial / path, entry) for path, entry in sorted(files.items())}
        check_names_no_code(partial)
        WorldModel.from_pretrained(partial)
        about = {"model": model, "revision": revision, "commit": commit, "files": sums}
        write_text(partial / HUB_FILE, json.dumps(about, indent=1) + "\n")
    return commit


def check_names_no_code(folder: Path) -> None:
    """Raise ValueError if a checkpoint names an environment by code that would be imported, see
    `StoreHeader.environment`."""
    if (folder / ENV_FILE).is_file():
        StoreHeader((1, 1, 1), {}, env_spec=(folder / ENV_FILE).read_text()).environment()
    if (folder / CONTEXTS / HEADER).is_file():
        StoreHeader.load(folder / CONTEXTS).environment()


def _checked(path: Path, entry: Any) -> str:
    """SHA-256 of a file that has the hash of its `huggingface_hub.RepoFile`.

    Raises:
        ValueError: if it has not, or is no file.
    """
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"{entry.path} is no plain file; nothing was kept.")
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    if entry.lfs is not None:
        same = entry.lfs.sha256 == sha256
    else:
        same = entry.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    if not same:
        raise ValueError(f"{entry.path} is not what the hub says that it is (its hash is another); pull it again.")
    return sha256
