"""Checkpoints that are compared side by side: all of one environment, of any kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lssvwm_envs.make import EnvSetup
from lssvwm_envs.options import setup_of_header
from lssvwm_rl.data.store import StoreHeader
from lssvwm_rl.model.checkpoints import load_contexts, load_world_model
from lssvwm_rl.model.config import attention_reach
from lssvwm_rl.model.world_model import WorldModel

LENGTHS = ("max_steps", "max_episode_steps")
"""Arguments of an environment that a protocol decides."""


@dataclass(frozen=True)
class Lineup:
    """What is compared.

    Attributes:
        models: by name.
        headers: of the stores that they were trained on, in the same order.
        vector_keys: of the vectors that some of them take, in the order of their numbers; empty if none does.
    """

    models: dict[str, WorldModel]
    headers: tuple[StoreHeader, ...]
    vector_keys: tuple[str, ...]

    def environment(self) -> EnvSetup:
        """The environment that all were trained in, but for the length of its episodes, which a protocol decides.

        Raises:
            ValueError: if it is unknown, named by code (`StoreHeader.environment`), or not the same for all.
        """
        found = {}
        for name, header in zip(self.models, self.headers, strict=True):
            setup = setup_of_header(header)
            if setup is None:
                raise ValueError(f"The checkpoint {name} does not tell its environment; name one with --env.")
            found[name] = replace(setup, kwargs={k: v for k, v in setup.kwargs.items() if k not in LENGTHS})
        (first, ours), *others = found.items()
        for name, theirs in others:
            if ours != theirs:
                raise ValueError(
                    f"{first} was trained in {ours.to_json()}, {name} in {theirs.to_json()}; name one with --env."
                )
        return ours


def load_lineup(checkpoints: Sequence[str], device: str = "cpu") -> Lineup:
    """Load checkpoints; each is named by its folder, or by its whole path where folders have one name.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if none is given, one twice, or their frames, actions or vectors differ.
    """
    if not checkpoints or len(set(checkpoints)) < len(checkpoints):
        raise ValueError(f"Give each checkpoint once, and at least one, not {list(checkpoints)}.")
    short = [Path(checkpoint).name for checkpoint in checkpoints]
    names = short if len(set(short)) == len(short) else list(checkpoints)
    models = {name: load_world_model(c, device) for name, c in zip(names, checkpoints, strict=True)}
    headers = tuple(load_contexts(checkpoint).header for checkpoint in checkpoints)
    first, *others = models
    for other in others:
        for what in ("frame_shape", "action_space"):
            ours, theirs = getattr(models[first].config, what), getattr(models[other].config, what)
            if ours != theirs:
                raise ValueError(
                    f"{first} has {what} {ours}, {other} has {theirs}; compare checkpoints of one environment."
                )
    pairs = zip(models.values(), headers, strict=True)
    keys = {tuple(header.vector_keys) for model, header in pairs if model.config.vector_size}
    if len(keys) > 1:
        raise ValueError(f"The checkpoints take different vectors, {sorted(keys)}; compare those that take the same.")
    return Lineup(models, headers, keys.pop() if keys else ())


def condition(model: WorldModel) -> str:
    """What leads a model's predictions: "pose" if it is given the vectors of the frames to predict, or "actions"."""
    return "pose" if model.config.vector_size else "actions"


def described(name: str, model: WorldModel | None = None) -> dict[str, str | None]:
    """JSON values about a predictor: "predictor", its name, and of a model "kind" and "condition"."""
    if model is None:
        return {"predictor": name, "kind": None, "condition": None}
    return {"predictor": name, "kind": model.config.backbone.kind, "condition": condition(model)}


def shared_reach(models: Iterable[WorldModel]) -> int:
    """One reach for all: the largest, so that what counts as memory is beyond every window.

    Models that attend to all frames have no finite reach and do not count.

    Raises:
        ValueError: if no model has a finite one.
    """
    reaches = [attention_reach(model.config.backbone) for model in models]
    finite = [reach for reach in reaches if reach is not None]
    if not finite:
        raise ValueError("Models of kind 'causal' alone have no finite reach; say with --reach what counts as memory.")
    return max(finite)
