"""The names of explorers, and which environments each is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import gymnasium as gym
from gymnasium.vector import VectorEnv

from lssvwm_envs.make import single_envs
from lssvwm_rl.policy import Policy

MakePolicy = TypeVar("MakePolicy", bound=Callable[..., Policy])


@dataclass(frozen=True)
class Explorer:
    """A scripted policy that can be asked for by name."""

    name: str
    make: Callable[..., Policy]
    """Called with the environments and a seed, and with settings of its own."""
    suits: Callable[[VectorEnv], bool] | None
    """Whether it is made for these environments; None if it plays any."""

    def __call__(self, envs: VectorEnv, seed: int, **settings: Any) -> Policy:
        """The policy for these environments.

        Raises:
            ValueError: if it does not suit them.
        """
        if self.suits is not None and not self.suits(envs):
            raise ValueError(
                f"The scripted policy {self.name!r} does not suit {envs}; use one of {', '.join(explorer_names(envs))}."
            )
        return self.make(envs, seed, **settings)


EXPLORERS: dict[str, Explorer] = {}
"""By name, in the order of registration."""


def explorer(name: str, suits: Callable[[VectorEnv], bool] | None = None) -> Callable[[MakePolicy], MakePolicy]:
    """Decorate what makes a policy of environments and a seed, so that it can be asked for by name.

    Args:
        suits: whether it is made for some environments; None if it plays any. Where several suit, "explore" is the
            first registered one.

    Raises:
        ValueError: if the name is taken.
    """

    def register(make: MakePolicy) -> MakePolicy:
        if name in EXPLORERS:
            raise ValueError(f"There is a scripted policy {name!r} already; choose another name.")
        EXPLORERS[name] = Explorer(name, make, suits)
        return make

    return register


def explorer_named(name: str) -> Explorer:
    """The explorer of that name.

    Raises:
        ValueError: if there is none.
    """
    if name not in EXPLORERS:
        raise ValueError(f"There is no scripted policy {name!r}; use one of {', '.join(explorer_names())}.")
    return EXPLORERS[name]


def explorer_names(envs: VectorEnv | None = None) -> list[str]:
    """All names in alphabetical order, or those of the explorers that suit some environments."""
    return sorted(e.name for e in EXPLORERS.values() if envs is None or e.suits is None or e.suits(envs))


def made_of(kind: type[gym.Env]) -> Callable[[VectorEnv], bool]:
    """A condition `suits`: the environments are a SyncVectorEnv of such ones."""

    def suits(envs: VectorEnv) -> bool:
        singles = single_envs(envs)
        return bool(singles) and all(isinstance(env, kind) for env in singles)

    return suits
