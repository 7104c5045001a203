"""The run folder: config.yaml, checkpoint, contexts, trainer state and learning curve, each written atomically."""

from __future__ import annotations

import csv
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError

from lssvwm_rl.checked_text import check_texts, is_checked, write_checked
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter
from lssvwm_rl.files import LOCK, check_new, is_unused, only_writer, write_text, written_whole
from lssvwm_rl.model.checkpoint_files import CONTEXTS, DOUBT, ENV_FILE, MODEL_CONFIG, WEIGHTS, resolve_checkpoint
from lssvwm_rl.model.checkpoint_tensors import check_finite, load_tensors, save_tensors
from lssvwm_rl.model.config import TRAINING_FIELDS
from lssvwm_rl.phases import flat_settings

CONFIG_FILE = "config.yaml"
CURVE_FILE = "learning_curve.csv"
MAX_CONTEXTS = 64
# Settings by the names that they had in the config.yaml of version 0.1.
MOVED = {
    "model.readout_size": "model.feature_size",
    "model.objective": "objective.name",
    **{f"model.{name}": f"objective.{name}" for name in TRAINING_FIELDS if name != "objective"},
}
RESUMABLE = (
    "token_noise",
    "steps",
    "minutes",
    "device",
    "devices",
    "strategy",
    "backend",
    "activation_checkpointing",
    "log_every",
    "preview_every",
    "measure_every",
    "checkpoint_minutes",
)


@contextmanager
def only_trainer(out: Path) -> Iterator[None]:
    """`files.only_writer` of a run that is there or shall be.

    Raises:
        ValueError: if `out` holds other things, or another process trains there.
    """
    if not (is_unused(out) or (out / CONFIG_FILE).is_file()):
        raise ValueError(f"{out} is not empty and not a run; choose another --out.")
    with only_writer(out, "run"):
        yield


def data_of_run(out: Path, store: EpisodeStore) -> EpisodeStore:
    """The episodes that a run was begun with, if its store has grown since (which is said in a RuntimeWarning), else
    all of the store."""
    try:
        config = yaml.safe_load((out / CONFIG_FILE).read_text())
        begun, same = int(config["episodes_of_data"]), config["data"] == str(store.path)
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return store  # no run, or one that `prepare` says something about
    if not same or begun >= len(store):
        return store
    warnings.warn(
        f"{store.path} has grown since {out} was begun; the run goes on with the first {begun} of {len(store)} "
        f"episodes. To learn from all of them, train with --weights {out} and another --out.",
        RuntimeWarning,
        stacklevel=2,
    )
    return store.first(begun)


def reward_scale_of(out: Path) -> float | None:
    """What a run was begun with; None if there is no run, or one that `prepare` says something about."""
    try:
        model = yaml.safe_load((out / CONFIG_FILE).read_text())["model"]
        return float(model.get("reward_scale", 1.0))
    except (OSError, KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError):
        return None


def prepare(
    out: Path,
    config: Mapping[str, Any],
    store: EpisodeStore,
    held_out: Sequence[int],
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Make the folder, or check that it is a run of the same config; what is missing of one that was interrupted while
    it was made follows.

    Args:
        out: folder.
        config: what decides the run.
        store: its data.
        held_out: episodes of which the contexts are taken.
        defaults: of settings that a run of an older version does not name.

    Raises:
        ValueError: if it holds other things or another run.
    """
    path = out / CONFIG_FILE
    if path.is_file():
        _check_same(path, config, defaults)
    elif not is_unused(out):
        raise ValueError(f"{out} is not empty and not a run; choose another --out.")
    # First of all, so that what is interrupted after it is known as this run.
    write_text(path, yaml.safe_dump(_plain(config), sort_keys=False))
    (out / "trainer").mkdir(exist_ok=True)
    if not (out / CONTEXTS).exists():
        with written_whole(out / CONTEXTS) as partial:
            with EpisodeWriter(partial, store.header) as writer:
                for i in held_out[:MAX_CONTEXTS]:
                    writer.add(store[i])
            (partial / LOCK).unlink(missing_ok=True)  # they are never added to
    env = out / ENV_FILE
    if store.header.env_spec is not None and not (env.exists() and is_checked(env)):
        write_checked(env, env.read_text() if env.exists() else store.header.env_spec)


def _check_same(path: Path, config: Mapping[str, Any], defaults: Mapping[str, Any] | None) -> None:
    """Raise ValueError unless the run whose config.yaml this is can go on with a config."""
    try:
        found = {
            MOVED.get(name, name): value for name, value in flat_settings(yaml.safe_load(path.read_text())).items()
        }
        differing = _differences({**flat_settings(_plain(defaults or {})), **found}, config)
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is broken ({error}); choose another --out.") from error
    if differing:
        name, ours, theirs = differing[0]
        raise ValueError(
            f"{path.parent} is a run with {name} {theirs}, not {ours}; repeat its command or choose another --out."
        )


def save_state(out: Path, state: Mapping[str, Any]) -> None:
    """Write the trainer's state; the previous one stays until the new one is whole."""
    write_state(out / "trainer" / "state.pt", state)


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state of tensors and plain values, whole or not at all."""
    with written_whole(path) as temporary:
        try:
            torch.save(dict(state), temporary)
        except RuntimeError as error:  # PyTorch's for a disk that is full
            raise OSError(f"{path} could not be written ({str(error).splitlines()[0]}); free some space.") from error


def load_state(out: Path) -> dict[str, Any] | None:
    """The trainer's state, None if there is none yet.

    Raises:
        ValueError: if it is broken or has changed since.
    """
    path = out / "trainer" / "state.pt"
    if not path.is_file():
        return None
    try:
        # PyTorch does not look at the CRC-32 that its archives have of every part.
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
        if changed is not None:
            raise ValueError(f"its part {changed} has changed since it was written")
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises many kinds; all mean the same to the user
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is broken ({reason}); remove the trainer folder to train anew.") from error


class Curve:
    """learning_curve.csv: one row per log, appended; rows after the resumed step are dropped, and what is no row, such
    as half of one where the disk was full."""

    def __init__(self, out: Path, step: int):
        self.path = out / CURVE_FILE
        self.names: list[str] = []
        if self.path.is_file():
            kept = [row for row in _whole_rows(self.path) if int(row["step"]) <= step]
            if kept:
                self.names = list(kept[0])
            with written_whole(self.path) as temporary, temporary.open("w", newline="") as file:
                if self.names:
                    writer = csv.DictWriter(file, self.names)
                    writer.writeheader()
                    writer.writerows(kept)

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row; the first one decides the columns."""
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self.names or list(row), extrasaction="ignore")
            if not self.names:
                self.names = list(row)
                writer.writeheader()
            writer.writerow({k: v if isinstance(v, int) else f"{v:.6g}" for k, v in row.items()})


def read_curve(run: Path) -> list[dict[str, float]]:
    """The rows of a run's learning_curve.csv, what is no number as NaN; none if there is no such file."""
    path = run / CURVE_FILE
    return [{name: _number(text) for name, text in row.items()} for row in _whole_rows(path)] if path.is_file() else []


def _whole_rows(path: Path) -> list[dict[str, str]]:
    text = path.read_text(errors="replace").replace("\0", "")
    lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [row for row in csv.DictReader(lines) if _is_whole(row)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _is_whole(row: Mapping[Any, Any]) -> bool:
    """Whether a row that was read has a step and as many values as there are columns."""
    return (row.get("step") or "").isdigit() and None not in row and None not in row.values()


def export(run: Path, out: Path) -> None:
    """Copy what a checkpoint needs (not the trainer's state) to a new folder, weights in half precision.

    Raises:
        FileExistsError: if `out` exists.
        FileNotFoundError: if there is no checkpoint at `run`.
        ValueError: if it is broken or has changed since, or its weights are too large for half precision.
    """
    check_new(out)
    run = resolve_checkpoint(run)
    try:
        check_texts(run)
        full, _ = load_tensors(run / WEIGHTS)
        weights = {name: t.half() if t.is_floating_point() else t for name, t in full.items()}
        check_finite(weights)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"Checkpoint {run} cannot be exported with weights in half precision: {error}.") from error
    with written_whole(out) as partial:
        partial.mkdir()
        if (run / CONTEXTS).is_dir():
            shutil.copytree(run / CONTEXTS, partial / CONTEXTS, ignore=shutil.ignore_patterns(LOCK))
        for name in (CONFIG_FILE, CURVE_FILE):
            if (run / name).is_file():
                shutil.copyfile(run / name, partial / name)
        for name in (MODEL_CONFIG, DOUBT, ENV_FILE):
            if (run / name).is_file():
                write_checked(partial / name, (run / name).read_text())
        save_tensors(weights, partial / WEIGHTS)


def steps_of_data(checkpoint: str | Path) -> int:
    """Real steps that a checkpoint was trained on, those of the weights that it started from included.

    Raises:
        ValueError: if its config.yaml does not say so.
    """
    path = resolve_checkpoint(checkpoint) / CONFIG_FILE
    try:
        return int(yaml.safe_load(path.read_text())["steps_of_data"])
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(
            f"{path} does not say how many real steps the model saw ({error!r}); train it again."
        ) from error


def _differences(found: Mapping[str, Any], config: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    ours, theirs = flat_settings(_plain(config)), found
    names = [n for n in {**ours, **theirs} if n.split(".")[-1] not in RESUMABLE]
    return [(n, ours.get(n), theirs.get(n)) for n in names if ours.get(n) != theirs.get(n)]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
