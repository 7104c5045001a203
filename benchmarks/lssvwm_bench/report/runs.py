"""What is in a folder of a run, as it is: settings, curves and results, and nothing that has to be measured."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from safetensors import SafetensorError

from lssvwm_agents.baselines import SETTINGS_FILE as BASELINE
from lssvwm_agents.imagination import SETTINGS_FILE as TRAINING
from lssvwm_agents.policies import CONFIG_FILE as POLICY
from lssvwm_agents.policies import check_policy_texts
from lssvwm_rl.checked_text import read_checked
from lssvwm_rl.data.episode import HEADER, StoreHeader
from lssvwm_rl.events import RESULT
from lssvwm_rl.model.checkpoint_files import CONTEXTS, ENV_FILE, MODEL_CONFIG, WEIGHTS, resolve_checkpoint
from lssvwm_rl.model.hub import PREFIX
from lssvwm_rl.phases import FOLDER as PHASES
from lssvwm_rl.phases import check_unchanged, settings_in
from lssvwm_rl.training.curve import read_curve
from lssvwm_rl.training.run_folder import CONFIG_FILE

Kind = Literal["world model", "loop", "baseline", "policy", "quickstart"]


@dataclass(frozen=True)
class Run:
    """A run, as far as it has come."""

    folder: Path
    kind: Kind
    settings: Mapping[str, Any]
    """Of the run itself, JSON values; empty where it says none."""
    world: Path | None = None
    """Folder of its world model: of a loop, that of the last round that has one."""
    world_settings: Mapping[str, Any] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    """Of the world model."""
    agent_curve: list[dict[str, float]] = field(default_factory=list)
    """Of a baseline, or of an agent in dreams."""
    pieces: list[dict[str, Any]] = field(default_factory=list)
    """Of a loop."""
    phases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What phases of a loop or a quickstart found."""
    policy: Mapping[str, Any] = field(default_factory=dict)
    """policy.json of the agent, if there is one."""
    results: Mapping[str, Any] = field(default_factory=dict)
    """report.json of a quickstart."""
    header: StoreHeader | None = None
    """Of the data that the world model learnt from."""
    broken: tuple[str, ...] = ()
    """A sentence for each file that cannot be read."""

    @property
    def env(self) -> str:
        """Name of the environment, "unknown environment" if no file says it."""
        named = self.settings.get("env") or self.policy.get("env_id")
        if not named and self.header is not None and self.header.env_spec is not None:
            try:
                named = json.loads(self.header.env_spec)["id"]
            except (ValueError, KeyError, TypeError):
                named = None
        return str(named or "unknown environment")

    @property
    def title(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @property
    def latest(self) -> float:
        """When a file of it was last written, in seconds since 1970."""
        folders = (self.folder, self.world or self.folder)
        files = [path for folder in folders for path in folder.iterdir() if path.is_file()]
        return max((path.stat().st_mtime for path in files), default=self.folder.stat().st_mtime)


def find_run(name: str) -> Run:
    """Read a run's folder, or that of a packaged checkpoint or of one from the hub.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it is no run.
    """
    folder = Path(name)
    if not folder.is_dir() or name.startswith(PREFIX):
        try:
            folder = resolve_checkpoint(name)
        except FileNotFoundError:
            if folder.exists():
                raise ValueError(f"{name} is a file; give the folder of a run.") from None
            raise FileNotFoundError(f"There is no run {name!r}; give a folder made by `lssvwm train`.") from None
    reader = _Reader()
    for is_one, read in (
        ((folder / BASELINE).is_file(), _baseline),
        ((folder / PHASES).is_dir() and (folder / MODEL_CONFIG).is_file(), _phases),
        ((folder / CONFIG_FILE).is_file() or (folder / WEIGHTS).is_file(), _world_model),
        ((folder / POLICY).is_file(), _policy),
    ):
        if is_one:
            return read(folder, reader)
    raise ValueError(
        f"{folder} is no run; give a folder made by `lssvwm train`, `lssvwm agent loop`, `agent train`, "
        "`agent baseline` or `lssvwm quickstart`."
    )


class _Reader:
    """Reads files, and notes what is broken."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def check(self, unchanged: Callable[[], None]) -> None:
        """Call what raises for a folder that is not whole."""
        try:
            unchanged()
        except (ValueError, OSError, SafetensorError) as error:
            self.broken.append(" ".join(str(error).split()))

    def mapping(
        self, path: Path, load: Callable[[str], Any] = json.loads, folder: Path | None = None
    ) -> dict[str, Any]:
        """Empty if there never was such a file, or it holds something else.

        Args:
            folder: that has its checksum, see `read_checked`.
        """
        found = self.value(path, load, {}, folder)
        if isinstance(found, dict):
            return found
        self.broken.append(f"{path.name} holds no settings.")
        return {}

    def value(self, path: Path, load: Callable[[str], Any], default: Any, folder: Path | None = None) -> Any:
        try:
            return load(read_checked(path, folder))
        except FileNotFoundError:
            return default
        except (ValueError, OSError, yaml.YAMLError) as error:
            self.broken.append(f"{path.name} cannot be read ({' '.join(str(error).split())[:200]}).")
            return default

    def header(self, world: Path, settings: Mapping[str, Any]) -> StoreHeader | None:
        """Of the contexts, else of the data."""
        for store in (world / CONTEXTS, *([Path(str(settings["data"]))] if "data" in settings else [])):
            if (store / HEADER).is_file():
                try:
                    return StoreHeader.load(store)
                except ValueError as error:
                    self.broken.append(str(error))
        return None

    def world(self, world: Path | None) -> dict[str, Any]:
        """Fields of `Run` about a world model."""
        if world is None:
            return {}
        settings = self.mapping(world / CONFIG_FILE, yaml.safe_load)
        return {
            "world": world,
            "world_settings": settings,
            "curve": self.curve(world) or curve_of_events(world),
            "header": self.header(world, settings),
        }

    def curve(self, run: Path) -> list[dict[str, float]]:
        """Rows of its learning_curve.csv."""
        try:
            return [row for row in read_curve(run) if "step" in row]
        except ValueError as error:
            self.broken.append(str(error))
            return []

    def pieces(self, folder: Path) -> list[dict[str, Any]]:
        found = self.value(folder / "pieces.json", json.loads, [])
        names = {"round", "piece", "dreamt_return", "real_return", "real_error", "success", "real_steps", "minutes"}
        if isinstance(found, list) and all(isinstance(each, dict) and names <= set(each) for each in found):
            return found
        self.broken.append("pieces.json holds no pieces of a loop.")
        return []


def _world_model(folder: Path, reader: _Reader) -> Run:
    about = reader.world(folder)
    agent = folder / "agent" if (folder / "agent" / POLICY).is_file() else folder
    pieces, policy = reader.pieces(folder), reader.mapping(agent / POLICY)
    return Run(folder, "world model", {}, **about, pieces=pieces, policy=policy, broken=tuple(reader.broken))


def _baseline(folder: Path, reader: _Reader) -> Run:
    settings, policy = reader.mapping(folder / BASELINE), reader.mapping(folder / POLICY)
    curve = reader.curve(folder)
    return Run(folder, "baseline", settings, agent_curve=curve, policy=policy, broken=tuple(reader.broken))


def _policy(folder: Path, reader: _Reader) -> Run:
    policy, settings = reader.mapping(folder / POLICY), reader.mapping(folder / TRAINING)
    reader.check(lambda: check_policy_texts(folder))
    env = reader.mapping(folder / ENV_FILE)
    settings |= {"env": env.get("id")} if env else {}
    curve = reader.curve(folder)
    header = _header_of(policy.get("checkpoint"), reader)
    return Run(folder, "policy", settings, agent_curve=curve, policy=policy, header=header, broken=tuple(reader.broken))


def _header_of(checkpoint: Any, reader: _Reader) -> StoreHeader | None:
    """Of the episodes of a policy's world model, if that is on this machine still."""
    if not isinstance(checkpoint, str) or checkpoint.startswith(PREFIX):
        return None
    try:
        return reader.header(resolve_checkpoint(checkpoint), {})
    except FileNotFoundError:
        return None


def _phases(folder: Path, reader: _Reader) -> Run:
    reader.check(lambda: check_unchanged(folder, "run"))
    settings = reader.mapping(folder / MODEL_CONFIG, settings_in)
    phases = {path.stem: reader.mapping(path, folder=folder) for path in sorted((folder / PHASES).glob("*.json"))}
    if "rounds" not in settings:
        world = folder / "world-model"
        about = reader.world(world if world.is_dir() else None)
        results = reader.mapping(folder / "report.json")
        return Run(folder, "quickstart", settings, **about, phases=phases, results=results, broken=tuple(reader.broken))
    worlds = [path for path in folder.glob("round-[0-9]*/world") if (path / CONFIG_FILE).is_file()]
    last = max(worlds, key=lambda path: (len(path.parent.name), path.parent.name), default=None)  # 10 after 9
    about, pieces = reader.world(last), reader.pieces(folder)
    policy = reader.mapping(folder / "agent" / POLICY)
    return Run(
        folder, "loop", settings, **about, pieces=pieces, phases=phases, policy=policy, broken=tuple(reader.broken)
    )


def curve_of_events(run: Path) -> list[dict[str, float]]:
    """Rows as in learning_curve.csv from a run's TensorBoard events, for where that file is lost."""
    if not any(run.glob("events.out.tfevents.*")):
        return []
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    rows: dict[int, dict[str, float]] = {}
    for tag in events.Tags()["scalars"]:
        if tag.startswith(RESULT):
            continue
        for event in events.Scalars(tag):
            rows.setdefault(event.step, {"step": float(event.step)})[tag.removeprefix("train/")] = event.value
    names = {name for row in rows.values() for name in row}
    return [
        {name: rows[step].get(name, math.nan) for name in ("step", *sorted(names - {"step"}))} for step in sorted(rows)
    ]
