"""Stage: the checkpoints that a page offers, and what is known of each before it is loaded."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from gymnasium.error import Error

from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.make import EnvSetup
from lssvwm_envs.options import is_registered, setup_of_checkpoint
from lssvwm_envs.play.dreamer import Dreamer
from lssvwm_envs.play.real import RealEpisode
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.checkpoint_files import ASSETS, CONTEXTS, MODEL_CONFIG, resolve_checkpoint

Say = Callable[[str], None]


def packaged() -> list[str]:
    """The names of the checkpoints that come with the package."""
    return sorted(path.parent.name for path in ASSETS.glob(f"*/{MODEL_CONFIG}"))


def check_whole(name: str) -> None:
    """Load what the sessions of a checkpoint share, and look at its episodes, before anybody opens a page.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if a file of it is missing, broken or has changed.
    """
    folder = resolve_checkpoint(name)
    shared_engine(folder)
    if (folder / CONTEXTS).is_dir():
        EpisodeStore(folder / CONTEXTS)


@dataclass(frozen=True)
class Offer:
    """A checkpoint that can be played."""

    name: str
    """As it was named, or as packaged."""
    checkpoint: str
    """Where it is, or "hub:owner/name"."""
    setup: EnvSetup | None
    """Of the real environment beside it; None if it is not known or not installed."""

    @classmethod
    def of(cls, name: str, setup: EnvSetup | None = None) -> Offer:
        """The offer of a checkpoint, with the environment of its data if no other is given and it is installed here.

        Raises:
            FileNotFoundError: if there is no such checkpoint.
            ValueError: if its episodes are broken.
        """
        folder = resolve_checkpoint(name)
        if setup is None:
            try:
                known = setup_of_checkpoint(name)
            except ValueError as error:
                warnings.warn(f"{error} It is dreamt without one.", RuntimeWarning, stacklevel=2)
                known = None
            setup = known if known is not None and is_registered(known.env_id) else None
        return cls(name, str(folder), setup)


@dataclass(frozen=True)
class Loaded:
    """An offer that one session plays."""

    offer: Offer
    dreamer: Dreamer
    real: RealEpisode | None
    has_contexts: bool


class Stage:
    """Loads what is offered, one at a time: sessions share a checkpoint's weights.

    Args:
        offers: at least one; the first is played unless another is chosen.
        context_length: of dreams in held-out episodes.
        log: is told in one sentence what failed, with names of files that are not for the page.
    """

    def __init__(self, offers: list[Offer], context_length: int = 1, log: Say = print):
        self.offers = {offer.name: offer for offer in offers}
        self.first = offers[0].name
        self._context_length, self._log, self._lock = context_length, log, Lock()

    def load(self, name: str) -> Loaded:
        """What one session plays; every session has environments of its own.

        Raises:
            ValueError: if it is not offered, or cannot be loaded; the message names no file.
        """
        if name not in self.offers:
            raise ValueError("There is no such checkpoint here; choose one of the list.")
        offer = self.offers[name]
        with self._lock:
            try:
                dreamer = Dreamer(offer.checkpoint, self._context_length)
            except (ValueError, FileNotFoundError, Error) as error:
                self._log(str(error))
                raise ValueError(f"{name} cannot be loaded; the terminal says why.") from error
            keys, has_contexts = _contexts(offer.checkpoint)
            try:
                real = None if offer.setup is None else RealEpisode(offer.setup, dreamer.model.config, keys)
            except (ValueError, Error) as error:
                self._log(str(error))
                real = None
            return Loaded(offer, dreamer, real, has_contexts)

    def warm(self) -> None:
        """Load what the first offer's sessions share, before anybody asks for it; says nothing of what fails."""
        try:
            loaded = self.load(self.first)
            if loaded.real is not None:
                loaded.real.begin(0)  # compiles what has to be
                loaded.real.close()
        except Exception:  # whoever opens the page is told
            pass


def _contexts(checkpoint: str) -> tuple[tuple[str, ...], bool]:
    """Keys of the vectors of a checkpoint's episodes, and whether it has any to begin in."""
    folder = Path(checkpoint) / CONTEXTS
    if not folder.is_dir():
        return (), False
    try:
        store = EpisodeStore(folder)
    except ValueError:
        return (), False
    return tuple(store.header.vector_keys), len(store) > 0
