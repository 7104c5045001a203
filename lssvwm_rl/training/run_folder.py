"""The run folder: config.yaml, checkpoint, contexts and trainer state, each written atomically."""

from __future__ import annotations

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

from lssvwm_rl.checked_text import is_checked, read_checked, write_checked
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter
from lssvwm_rl.files import LOCK, check_new, is_unused, only_writer, written_whole
from lssvwm_rl.model.checkpoint_files import CONTEXTS, DOUBT, ENV_FILE, MODEL_CONFIG, WEIGHTS, resolve_checkpoint
from lssvwm_rl.model.checkpoint_tensors import check_finite, load_tensors, save_tensors
from lssvwm_rl.model.checkpoint_weights import check_checkpoint_texts
from lssvwm_rl.model.config import TRAINING_FIELDS
from lssvwm_rl.phases import flat_settings
from lssvwm_rl.training.curve import CURVE_FILE

CONFIG_FILE = "config.yaml"
TEXTS = (MODEL_CONFIG, DOUBT, ENV_FILE, CONFIG_FILE, CURVE_FILE)  # that an exported checkpoint has, if the run has them
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
        raise ValueError(f"{out} is not empty and not a run ({CONFIG_FILE} is missing); choose another --out.")
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
        ValueError: if it holds other things or another run, or a text in it has changed since it was written.
    """
    path = out / CONFIG_FILE
    if path.is_file():
        _check_unchanged(out)
        _check_same(path, config, defaults)
    elif not is_unused(out):
        raise ValueError(f"{out} is not empty and not a run; choose another --out.")
    # First of all, so that what is interrupted after it is known as this run.
    write_checked(path, yaml.safe_dump(_plain(config), sort_keys=False))
    (out / "trainer").mkdir(exist_ok=True)
    if not (out / CONTEXTS).exists():
        with written_whole(out / CONTEXTS) as partial:
            with EpisodeWriter(partial, store.header) as writer:
                for i in held_out[:MAX_CONTEXTS]:
                    writer.add(store[i])
            (partial / LOCK).unlink(missing_ok=True)  # they are never added to
    env = out / ENV_FILE
    if store.header.env_spec is not None:
        write_checked(env, env.read_text() if env.exists() else store.header.env_spec)


def _check_unchanged(out: Path) -> None:
    try:
        check_checkpoint_texts(out)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"Run {out} cannot go on ({error}); put that file back or choose another --out.") from error


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
        check_checkpoint_texts(run)
        texts = {name: read_checked(run / name) for name in TEXTS if (run / name).is_file()}
        full, _ = load_tensors(run / WEIGHTS)
        weights = {name: t.half() if t.is_floating_point() else t for name, t in full.items()}
        check_finite(weights)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"Checkpoint {run} cannot be exported with weights in half precision: {error}.") from error
    with written_whole(out) as partial:
        partial.mkdir()
        if (run / CONTEXTS).is_dir():
            shutil.copytree(run / CONTEXTS, partial / CONTEXTS, ignore=shutil.ignore_patterns(LOCK))
        for name, text in texts.items():
            write_checked(partial / name, text)
        save_tensors(weights, partial / WEIGHTS)


def steps_of_data(checkpoint: str | Path) -> int:
    """Real steps that a checkpoint was trained on, those of the weights that it started from included.

    Raises:
        ValueError: if its config.yaml does not say so, or has changed since it was written.
    """
    path = resolve_checkpoint(checkpoint) / CONFIG_FILE
    if is_checked(path):
        read_checked(path)
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
