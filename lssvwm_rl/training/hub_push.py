"""A run or a checkpoint as a model of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from lssvwm_rl.checked_text import read_checked, write_checked
from lssvwm_rl.files import check_new, written_whole
from lssvwm_rl.model.checkpoint_files import resolve_checkpoint
from lssvwm_rl.model.hub import client, hub_errors, is_shared, split_name
from lssvwm_rl.model.hub_pull import check_names_no_code
from lssvwm_rl.training.model_card import CARD, notes_of, write_card
from lssvwm_rl.training.run_folder import CONFIG_FILE, export

COMMIT_MESSAGE = "World model by lssvwm-rl"


def shared_folder(checkpoint: str | Path, model: str, out: Path, license: str = "mit") -> list[str]:
    """Write what is pushed to a new folder: the checkpoint as `run_folder.export` makes it, a card and its pictures.

    A README.md of the checkpoint becomes the end of the card. Of folders that its config.yaml names only the last part
    is kept, if they are absolute.

    Returns:
        The files, in order, by their paths in the folder.

    Raises:
        FileExistsError: if `out` exists.
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the name is not of the form "owner/name", the checkpoint is broken, holds a link that could lead
            to other files, or names code.
    """
    check_new(out)
    if split_name(model)[1] is not None:
        raise ValueError(f"{model!r} names a revision, and what is pushed becomes the newest; write owner/name.")
    folder = resolve_checkpoint(checkpoint)
    links = [path for path in sorted(folder.rglob("*")) if path.is_symlink()]
    if links:
        raise ValueError(f"{links[0]} is a link, and what it leads to is not shared unasked; replace it by a file.")
    check_names_no_code(folder)
    notes = notes_of((folder / CARD).read_text()) if (folder / CARD).is_file() else ""
    with written_whole(out) as partial:
        export(folder, partial)
        _forget_places(partial / CONFIG_FILE)
        write_card(partial, model.removeprefix("hub:"), license, notes)
        names = [path.relative_to(partial).as_posix() for path in sorted(partial.rglob("*")) if path.is_file()]
        for name in names:
            if not is_shared(name):
                (partial / name).unlink()
    return [name for name in names if is_shared(name)]


def push(
    folder: Path, model: str, private: bool = False, show: Callable[[int, int, str], None] = lambda *progress: None
) -> str:
    """Make a folder the newest commit of a model, which is made if there is none; all its files are one commit.

    Files of earlier commits that are of the kinds that are shared, and are not in the folder, are removed by it.

    Args:
        private: whether the model is to be seen by its owner alone.
        show: is called with what is done, of how much, and what comes next.

    Returns:
        Address of the commit.

    Raises:
        ValueError: if the name is not of that form, or a private model is wanted and there is a public one.
        FileNotFoundError, PermissionError, ConnectionError: as `hub.hub_errors`.
        gymnasium.error.DependencyNotInstalled: if huggingface_hub is missing.
    """
    model, _ = split_name(model)
    hub = client(model)
    if hub.get_token() is None:
        raise PermissionError(
            f"The hub does not know who pushes {model}; log in with `hf auth login`, or set HF_TOKEN."
        )
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    with hub_errors(model):
        api = hub.HfApi()
        show(0, 2, "making the model")
        api.create_repo(model, private=private, exist_ok=True)
        found = api.model_info(model)
        if private and not found.private:
            raise ValueError(f"{model} is there already and public; choose another name, or leave out --private.")
        old = [each.rfilename for each in found.siblings or () if is_shared(each.rfilename)]
        operations = [
            *(hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in files.items()),
            *(hub.CommitOperationDelete(path_in_repo=name) for name in old if name not in files),
        ]
        show(1, 2, f"{len(files)} files")
        commit = api.create_commit(model, operations, commit_message=COMMIT_MESSAGE)
    show(2, 2, "")
    return str(commit.commit_url)


def _forget_places(path: Path) -> None:
    """Say nothing of where folders are on the machine that a run was trained on."""
    if not path.is_file():
        return
    settings = yaml.safe_load(read_checked(path))
    for name in ("data", "weights"):
        value = settings.get(name)
        if isinstance(value, str) and Path(value).is_absolute():
            settings[name] = Path(value).name
    write_checked(path, yaml.safe_dump(settings, sort_keys=False))
