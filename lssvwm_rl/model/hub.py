"""Checkpoints on the Hugging Face hub, by names that begin with "hub:"; no other name ever reaches the network.

Here is decided what models are called, which files of them are taken or given, and what is said when the hub says no.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

from gymnasium.error import DependencyNotInstalled

PREFIX = "hub:"
# Weights and texts, and the numbers of the episodes that dreams begin in; nothing that a program would run.
PATTERNS = ("*.safetensors", "*.json", "*.yaml", "*.csv", "contexts/*.zarr/*/c/*")
CARD_PATTERNS = ("README.md", "*.png")  # besides, for people
_OWNER_AND_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")
_FILE = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")


def split_name(name: str) -> tuple[str, str | None]:
    """Owner and name of a model, and its revision (a branch, tag or commit) or None, of "owner/name[@revision]", with
    or without "hub:" before it.

    Raises:
        ValueError: if the name is not of that form.
    """
    model, at, revision = name.removeprefix(PREFIX).partition("@")
    fine = _OWNER_AND_NAME.fullmatch(model) and (_REVISION.fullmatch(revision) or not at)
    if not fine or ".." in model or ".." in revision:
        raise ValueError(f"{name!r} names no model of the hub; write {PREFIX}owner/name.")
    return model, revision or None


def is_shared(path: str, patterns: tuple[str, ...] = PATTERNS + CARD_PATTERNS) -> bool:
    """Whether a file of that path, with "/" between its parts, is taken and given."""
    return any(fnmatch(path, pattern) for pattern in patterns)


def check_path(path: str) -> None:
    """Raise ValueError for a file that could be written outside its folder, or has a name that some systems lack."""
    if not _FILE.fullmatch(path) or ".." in path:
        raise ValueError(f"A file of the model is called {path!r}, which is no plain path; nothing was downloaded.")


def client(name: str) -> ModuleType:
    """huggingface_hub.

    Raises:
        gymnasium.error.DependencyNotInstalled: if it is missing.
    """
    try:
        import huggingface_hub
        import huggingface_hub.utils  # which is not there by itself
    except ImportError as error:
        raise DependencyNotInstalled(
            f"{PREFIX}{name.removeprefix(PREFIX)} needs huggingface_hub; install it with `pip install lssvwm-rl[hub]`."
        ) from error
    return huggingface_hub


@contextmanager
def hub_errors(model: str, revision: str | None = None) -> Iterator[None]:
    """What huggingface_hub raises in the block as one sentence with the remedy.

    Raises:
        ValueError: if the hub takes no such name.
        PermissionError: if the hub does not know who asks, or they may not.
        FileNotFoundError: if there is no such model or revision.
        ConnectionError: if the hub cannot be reached, or fails.
    """
    from huggingface_hub import constants, errors

    try:
        yield
    except errors.GatedRepoError as error:
        page = f"{constants.ENDPOINT}/{model}"
        raise PermissionError(f"{model} is given to some only; ask for it at {page}, then `hf auth login`.") from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(
            f"{model} has no revision {revision!r}; name a branch, a tag or a whole commit of it."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"There is no model {model!r} on the hub, or it is private; check its name, or log in with "
            "`hf auth login` if it is yours."
        ) from error
    except errors.HFValidationError as error:
        raise ValueError(f"The hub takes no model called {model!r} ({error}); choose another name.") from error
    except errors.LocalEntryNotFoundError as error:  # it was asked for in vain, and nothing of it is in the cache
        why = error.__cause__ or error
        if isinstance(why, errors.HfHubHTTPError):
            raise _refused(model, why.response.status_code, str(why)) from error
        raise _unreachable(constants.ENDPOINT, why) from error
    except errors.HfHubHTTPError as error:
        raise _refused(model, error.response.status_code, str(error)) from error
    except Exception as error:
        # Of the HTTP client, of which there have been several; disks that are full have a number.
        ours = type(error).__module__.split(".")[0].startswith(("http", "requests", "urllib3", "huggingface_hub"))
        if not (ours or isinstance(error, ConnectionError | TimeoutError)):
            raise
        raise _unreachable(constants.ENDPOINT, error) from error


def _unreachable(endpoint: str, error: BaseException) -> ConnectionError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return ConnectionError(f"The hub at {endpoint} cannot be reached ({reason}); look after the network and try again.")


def _refused(model: str, status: int, text: str) -> OSError:
    if status == 401:
        return PermissionError(
            f"The hub does not know who asks for {model}; log in with `hf auth login`, or set HF_TOKEN to a token that "
            "is valid."
        )
    if status == 403:
        return PermissionError(
            f"The token may not write to {model}; log in with one that may (`hf auth login`), or choose another owner."
        )
    reason = (text.strip().splitlines() or [str(status)])[0].rstrip(".")
    return ConnectionError(f"The hub refused {model} with status {status} ({reason}); try again later.")


def download(name: str) -> Path:
    """The folder of a checkpoint "hub:owner/name[@revision]", downloaded once per process if it has changed.

    Raises:
        ValueError: if the name is not of that form.
        FileNotFoundError: if there is no such model, or it can neither be reached nor is it in the hub's cache.
        gymnasium.error.DependencyNotInstalled: if huggingface_hub is missing.
    """
    return _download(*split_name(name))


@functools.cache
def _download(model: str, revision: str | None = None) -> Path:
    hub = client(model)
    try:
        with hub_errors(model, revision):
            return Path(hub.snapshot_download(model, revision=revision, allow_patterns=list(PATTERNS)))
    except (PermissionError, ConnectionError) as error:
        if error.errno is not None:  # of this machine's own
            raise
        raise FileNotFoundError(str(error)) from error
