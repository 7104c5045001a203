"""The commands that made a run, from its settings: every option that differs from what the command takes by itself."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from lssvwm_agents.baselines import BaselineConfig
from lssvwm_agents.imagination import DreamTrainConfig
from lssvwm_agents.loop import LoopConfig
from lssvwm_bench.report.runs import Run
from lssvwm_envs.options import is_registered, setup_of_header
from lssvwm_rl.data.splits import SPLITS
from lssvwm_rl.data.store import StoreHeader
from lssvwm_rl.model.checkpoint_files import ASSETS
from lssvwm_rl.phases import flat_settings
from lssvwm_rl.training.objective import ObjectiveConfig
from lssvwm_rl.training.presets import PRESETS
from lssvwm_rl.training.run_folder import MOVED

_NO_ENV: dict[str, Any] = {"image": None, "resize": None, "seeds": ()}
_NOTHING: dict[str, Any] = {**_NO_ENV, "vector": ()}


@dataclass(frozen=True)
class Recipe:
    """How a run was made."""

    lines: list[str] = field(default_factory=list)
    """Shell lines, in order; empty if the run does not say it."""
    unnamed: list[str] = field(default_factory=list)
    """Settings of today that the run, of another version, says nothing of."""


def recipe(run: Run) -> Recipe:
    """Commands that make a run like this one."""
    settings = run.settings
    # Nobody trains inside of the package.
    out = f"runs/{run.folder.name}" if ASSETS in run.folder.parents else str(run.folder)
    if run.kind == "quickstart":
        words = ["quickstart", "--out", out, *(["--smoke"] if settings.get("smoke") else [])]
        return Recipe(_lines([[*words, "--checkpoint", str(settings.get("checkpoint", "minigrid-memory"))]]))
    if run.kind == "policy":
        return _of_policy(run, out)
    if run.kind == "loop" and settings:
        begun = [
            word for name in ("checkpoint", "data") if settings.get(name) for word in (f"--{name}", settings[name])
        ]
        words = ["agent", "loop", "--env", run.env, "--out", out, *begun]
        return _recipe(words, _without(settings, "env", "checkpoint", "data"), dataclasses.asdict(LoopConfig()))
    if run.kind == "baseline" and settings:
        words = ["agent", "baseline", "--env", run.env, "--out", out]
        default = _renamed(dataclasses.asdict(BaselineConfig(env=run.env)))
        return _recipe(words, _renamed(settings), default)
    if run.world_settings:
        trained = train_recipe(run.world_settings, out, run.header)
        return Recipe([*_lines(_collecting(run)), *trained.lines], trained.unnamed)
    return Recipe()


def _of_policy(run: Run, out: str) -> Recipe:
    """`lssvwm agent train`, with real rows if there were some."""
    checkpoint, settings = run.policy.get("checkpoint"), run.settings
    if not checkpoint or settings.get("begun_with"):
        return Recipe()
    words = ["agent", "train", "--checkpoint", str(checkpoint), "--out", out]
    if "total_steps" not in settings:  # of an earlier version
        return Recipe(_lines([words]))
    words += ["--env", settings["env"]] if settings.get("real_share") else []
    own = _without(settings, "env", "checkpoint", "begun_with")
    return _recipe(words, {**_NO_ENV, **own}, {**_NO_ENV, **dataclasses.asdict(DreamTrainConfig())})


def train_recipe(settings: Mapping[str, Any], out: str, header: StoreHeader | None) -> Recipe:
    """`lssvwm train` with the preset that needs the fewest options."""
    known = {MOVED.get(name, name): value for name, value in flat_settings(dict(settings)).items()}
    words = ["train", "--data", str(settings.get("data")), "--out", out]
    if settings.get("weights"):
        words += ["--weights", str(settings["weights"])]
    if header is not None and header.vector_size and not known.get("model.vector_size"):
        words.append("--actions-only")
    ours = {name.removeprefix("train."): value for name, value in known.items()}
    recipes = []
    for name, preset in PRESETS.items():
        model, objective = dataclasses.asdict(preset.model), dataclasses.asdict(ObjectiveConfig())
        default = {**dataclasses.asdict(preset.train), "model": model, "objective": objective}
        recipes.append((len(options(ours, default)), _recipe([*words, "--preset", name], ours, default)))
    return min(recipes, key=lambda each: each[0])[1]


def _recipe(words: Sequence[str], settings: Mapping[str, Any], default: Mapping[str, Any]) -> Recipe:
    ours, theirs = flat_settings(dict(settings)), flat_settings(dict(default))
    line = _lines([[*words, *options(settings, default)]])
    return Recipe(line, [name for name in theirs if name not in ours])


def _renamed(baseline: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a baseline by the names of its options."""
    steps = {"steps": baseline["total_steps"]} if "total_steps" in baseline else {}
    return {**_without(baseline, "env", "total_steps"), **steps}


def _without(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def options(settings: Mapping[str, Any], default: Mapping[str, Any]) -> list[str]:
    """Words for what differs; settings that the defaults do not name are of another version and left out.

    Args:
        settings: JSON values, nested or with dots.
        default: of all options, nested.
    """
    plain = json.loads(json.dumps(dict(settings)))
    pairs = plain.pop("env_kwargs", None) or {}
    ours, theirs = flat_settings(plain), flat_settings(json.loads(json.dumps(dict(default))))
    words: list[str] = []
    for name, value in ours.items():
        if name in theirs and value != theirs[name]:
            words += _option(name, value)
    return [*words, *(["--env-kwargs", *(_text(word) for pair in pairs.items() for word in pair)] if pairs else [])]


def _option(name: str, value: Any) -> list[str]:
    path = name.replace("_", "-")
    if isinstance(value, bool):
        parent, _, last = path.rpartition(".")
        return [f"--{f'{parent}.' if parent else ''}{'' if value else 'no-'}{last}"]
    return [f"--{path}", *(str(word) for word in _flat(value))]


def _text(value: Any) -> str:
    """What `cli.json_value` reads back."""
    return value if isinstance(value, str) else json.dumps(value)


def _flat(value: Any) -> Sequence[Any]:
    return [word for part in value for word in _flat(part)] if isinstance(value, list) else [value]


def _collecting(run: Run) -> list[list[str]]:
    """How the data were collected, as far as the store says it."""
    header, settings = run.header, run.world_settings
    try:
        setup = None if header is None else setup_of_header(header)
    except ValueError:
        return []
    if header is None or setup is None or len(header.seeds) != 1 or "episodes_of_data" not in settings:
        return []
    words = ["collect", setup.env_id, "--out", str(settings["data"]), "--episodes", str(settings["episodes_of_data"])]
    words += ["--policy", header.policy, *_world(header.seeds[0])]
    usual = dict(gym.spec(setup.env_id).kwargs) if is_registered(setup.env_id) else {}
    kwargs = {name: value for name, value in setup.kwargs.items() if name not in usual or usual[name] != value}
    given = {"image": setup.image, "resize": setup.resize, "seeds": setup.seeds, "vector": tuple(header.vector_keys)}
    words += options({**{name: value for name, value in given.items() if value}, "env_kwargs": kwargs}, _NOTHING)
    return [words]


def _world(seed: int) -> list[str]:
    """The options of the first world that was played."""
    for name, numbers in SPLITS.items():
        if seed in numbers:
            return ["--seed", str(seed - numbers.start), *(["--split", name] if name != "train" else [])]
    return ["--seed", str(seed)]


def _lines(commands: Sequence[Sequence[str]]) -> list[str]:
    return [f"lssvwm {shlex.join(map(str, words))}" for words in commands]
