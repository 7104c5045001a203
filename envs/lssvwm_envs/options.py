"""EnvOptions: the options of every command that makes an environment, and what data and checkpoints say of theirs."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields
from pathlib import Path

import gymnasium as gym

from lssvwm_envs.image import AsImage
from lssvwm_envs.levels import GivenSeeds, read_seeds
from lssvwm_envs.make import EnvSetup, import_module_of
from lssvwm_rl.cli import json_value
from lssvwm_rl.data.episode import HEADER, StoreHeader
from lssvwm_rl.data.remote import place
from lssvwm_rl.model.checkpoint_files import CONTEXTS, ENV_FILE, resolve_checkpoint


@dataclass(frozen=True, kw_only=True)
class EnvOptions:
    """How an environment is made. What is not given is as it was for the data or the checkpoint that is used.

    Raises:
        ValueError: for seeds that are none, or an empty size or length.
    """

    env_kwargs: dict[str, str] = field(default_factory=dict)
    """Arguments of the environment as KEY VALUE pairs, for example size 9."""
    max_episode_steps: int | None = None
    """Steps after which episodes are cut; needed where they do not end by themselves."""
    image: str | None = None
    """Key of the image in a Dict observation, where there are several."""
    resize: tuple[int, int] | None = None
    """Height and width that images are resized to."""
    seeds: tuple[str, ...] = ()
    """Seeds to reset with, for environments whose seeds number their levels: a range such as 0:100, or numbers; world k
    of a split is the k-th of them. Without, the split's own seeds."""

    def __post_init__(self) -> None:
        read_seeds(self.seeds)
        if self.max_episode_steps is not None and self.max_episode_steps < 1:
            raise ValueError(f"--max-episode-steps {self.max_episode_steps} leaves no step; use at least 1.")
        if self.resize is not None and min(self.resize) < 1:
            raise ValueError(f"--resize {self.resize} leaves no image; give a height and a width of at least 1.")

    @property
    def given(self) -> bool:
        """Whether any option is."""
        return any(getattr(self, each.name) for each in fields(EnvOptions))

    def setup(
        self,
        env_id: str | None,
        known: EnvSetup | None = None,
        known_of: str = "the data",
        free: Collection[str] = (),
    ) -> EnvSetup:
        """The environment to make.

        Args:
            env_id: that of `known` if None. A module in it, "module:Name-v0", is imported, if need be from the current
                folder.
            known: what the data or the checkpoint was made with. It holds where nothing else is said if it is the same
                environment; a difference is warned of in one sentence.
            known_of: what `known` is the environment of, for the warning.
            free: arguments that others decide, of which there is no warning.

        Raises:
            ValueError: if no environment is named, or known and registered.
            gymnasium.error.Error: if there is no module of that name.
        """
        if env_id is not None:
            import_module_of(env_id, also_here=True)
        elif known is None:
            raise ValueError(f"The environment of {known_of} is not known; name one with --env.")
        elif not is_registered(known.env_id):
            raise ValueError(
                f"The environment of {known_of}, {known.env_id}, is not registered here; name it with --env, as "
                f"module:{known.env_id} if a module registers it."
            )
        same = known is not None and (env_id is None or _bare(env_id) == _bare(known.env_id))
        begun = known if known is not None and same else EnvSetup(env_id or "")
        kwargs = {**begun.kwargs, **{name: json_value(text) for name, text in self.env_kwargs.items()}}
        if self.max_episode_steps is not None:
            kwargs["max_episode_steps"] = self.max_episode_steps
        chosen = EnvSetup(
            env_id or begun.env_id, kwargs, self.image or begun.image, self.resize or begun.resize,
            self.seeds or begun.seeds,
        )  # fmt: skip
        if known is not None and (found := difference(known, chosen, free)):
            text = f"{known_of[:1].upper()}{known_of[1:]} is of {found}."
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return chosen


def known_setup(env_id: str | None, read: Callable[[], EnvSetup | None]) -> EnvSetup | None:
    """What a file says of its environment, as one of the functions below reads it.

    Args:
        env_id: the environment that the user names. Then a file that says nothing that can be used is no error: one
            sentence warns that nothing is taken over from it.

    Raises:
        ValueError: as `read`, if no environment is named.
        FileNotFoundError: as `read`.
    """
    try:
        return read()
    except ValueError as error:
        if env_id is None:
            raise
        warnings.warn(f"{error} Only what is given here holds.", RuntimeWarning, stacklevel=2)
        return None


def is_registered(env_id: str) -> bool:
    """Whether there is such an environment here."""
    import minigrid  # they register theirs

    import lssvwm_rl

    return bool(lssvwm_rl.__name__ and minigrid.__name__) and env_id in gym.registry


def difference(known: EnvSetup, chosen: EnvSetup, free: Collection[str] = ()) -> str | None:
    """What is not the same in two setups, "Name-v0 with max_steps 7, not 9"; None if nothing is. Which seeds are played
    makes no other environment."""
    if _bare(known.env_id) != _bare(chosen.env_id):
        return f"{known.env_id}, not {chosen.env_id}"
    before, now = ({**dict(s.kwargs), "image": s.image, "resize": s.resize} for s in (known, chosen))
    for name in {**before, **now}:
        if name not in free and before.get(name) != now.get(name):
            was, is_now = (
                "its default" if each.get(name) is None else json.dumps(each[name]) for each in (before, now)
            )
            return f"{known.env_id} with {name} {was}, not {is_now}"
    return None


def setup_of_header(header: StoreHeader) -> EnvSetup | None:
    """What the episodes of a store were made with; None if the header does not say it.

    Raises:
        ValueError: as `setup_of_spec`.
    """
    return None if header.env_spec is None else setup_of_spec(header.env_spec)


def setup_of_spec(env_spec: str) -> EnvSetup:
    """What an environment was made with, from the JSON of its EnvSpec in a file.

    Of what an EnvSpec lists as put around the environment only the arguments of `AsImage` and `GivenSeeds` are read:
    nothing is made because a file says so.

    Raises:
        ValueError: if it names code, see `StoreHeader.environment`, or settings that are none.
    """
    named = StoreHeader((1, 1, 1), {}, env_spec=env_spec).environment()  # where it is decided what a file may name
    assert named is not None
    env_id, kwargs = named
    spec = json.loads(env_spec)
    limit, registered = spec.get("max_episode_steps"), gym.registry.get(env_id)
    try:
        around = {each["name"]: each.get("kwargs") or {} for each in spec.get("additional_wrappers") or ()}
        if limit is not None and (registered is None or registered.max_episode_steps != limit):
            kwargs = {**kwargs, "max_episode_steps": int(limit)}
        image, resize = (around.get(AsImage.__name__, {}).get(name) for name in ("image", "resize"))
        size = None if resize is None else (int(resize[0]), int(resize[1]))
        seeds = tuple(str(text) for text in around.get(GivenSeeds.__name__, {}).get("seeds", ()))
        read_seeds(seeds)
        return EnvSetup(env_id, kwargs, None if image is None else str(image), size, seeds)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(
            f"A header says of its environment what cannot be used ({error!r}); name it with --env."
        ) from error


def setup_of_store(folder: str | Path) -> EnvSetup | None:
    """What a store was made with; None if there is no store yet, or it does not say it.

    Raises:
        ValueError: as `setup_of_header`, or if the store is broken.
    """
    found = place(folder)
    return setup_of_header(StoreHeader.load(found)) if (found / HEADER).is_file() else None


def setup_of_checkpoint(name: str | Path) -> EnvSetup | None:
    """What the data of a checkpoint was made with, as its episodes say it, or without any, its file of the environment;
    None if neither does.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: as `setup_of_store` and `setup_of_spec`.
    """
    folder = resolve_checkpoint(name)
    if (folder / CONTEXTS / HEADER).is_file() or not (folder / ENV_FILE).is_file():
        return setup_of_store(folder / CONTEXTS)
    return setup_of_spec((folder / ENV_FILE).read_text())


def _bare(env_id: str) -> str:
    """Without the module that registers it."""
    return env_id.rpartition(":")[2]
