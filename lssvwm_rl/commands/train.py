"""`lssvwm train`: learn a world model from a store; the same command resumes."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from lssvwm_rl.data.clips import hold_out
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.measures.memory_check import FRAMES, MemoryCheck, window_of
from lssvwm_rl.measures.memory_formed import memory_note
from lssvwm_rl.measures.rollouts import FreeRunning
from lssvwm_rl.model.backends import resolve_backend
from lssvwm_rl.model.checkpoints import shown_by
from lssvwm_rl.model.config import KINDS, BackboneConfig, ModelConfig, attention_reach
from lssvwm_rl.model.engine import engine_of
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.progress import finish, progress_bar, say
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.devices import is_first
from lssvwm_rl.training.log import Progress
from lssvwm_rl.training.objective import ObjectiveConfig
from lssvwm_rl.training.precision import device_of, resolve_precision
from lssvwm_rl.training.presets import PRESETS, for_data
from lssvwm_rl.training.run_folder import data_of_run
from lssvwm_rl.training.trainer import train

EXAMPLE = "lssvwm train --data runs/data --out runs/model --minutes 30"
RENAMED = {
    "--objective": "--objective.name",
    "--shortcut": "--model.shortcut",
    "--backend": "--model.backbone.backend",
}


@dataclass(frozen=True)
class Train:
    """Train a world model. What is not given comes from the preset."""

    data: Path
    """Store made by `lssvwm collect`: a folder, or a URL such as s3://bucket/store."""
    out: Path
    """Run folder; a run that is there already is continued."""
    preset: Annotated[str, tyro.conf.arg(metavar="|".join(PRESETS))] = "tiny"
    """Sizes of the model and settings of the training."""
    weights: str | None = None
    """Checkpoint of the same sizes to start from, for example to go on with other data."""
    kind: Annotated[str | None, tyro.conf.arg(metavar="|".join(KINDS))] = None
    """What mixes frames: a baseline with as many parameters as the preset's model."""
    actions_only: bool = False
    """Leave out the vectors of the store, for example the pose."""
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    """Sizes of the model."""
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    """What is minimised."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=TrainConfig)


def defaults(words: Sequence[str]) -> Train:
    """What a command line leaves out, by the preset in it; a model that learns shortcuts draws the noise of pixels.

    Raises:
        ValueError: for an unknown preset.
    """
    given = [words[i + 1] for i, word in enumerate(words[:-1]) if word == "--preset"]
    given += [word.partition("=")[2] for word in words if word.startswith("--preset=")]
    name = given[-1] if given else Train.preset
    if name not in PRESETS:
        raise ValueError(f"Preset {name!r} is unknown; use one of {', '.join(PRESETS)}.")
    model, required = PRESETS[name].model, tyro.MISSING
    if "--model.shortcut" in words:
        model = dataclasses.replace(model, token_noise=False)
    return Train(data=required, out=required, preset=name, model=model, config=PRESETS[name].train)


def main(args: Train) -> None:
    """Train, and say whether memory formed.

    Raises:
        ValueError: if the store is broken, or `out` is another run.
        FloatingPointError: if three updates in a row had a loss or a gradient that is not finite.
    """
    store, config = data_of_run(args.out, EpisodeStore(args.data)), args.config
    if not hold_out(store)[1]:
        warnings.warn(
            f"{args.data} has {len(store)} episode, and none is held out for dreams to begin in: the model will dream "
            "from contexts that it is given, only; collect at least two.",
            RuntimeWarning,
            stacklevel=1,
        )
    try:
        resolve_backend(args.model.backbone.backend, device_of(config.device))
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    model = for_data(args.model, store.header, args.kind)
    if args.actions_only:
        model = dataclasses.replace(model, vector_size=0)
    if model.padded_to != model.frame_shape[:2]:
        (height, width), (rows, columns) = model.frame_shape[:2], model.padded_to
        say(f"Frames of {height}x{width} pixels are padded to {rows}x{columns} inside the model.")
    precision = resolve_precision(config.precision, config.device)
    check, dreams = memory_check(store, model.backbone, config.span), free_running(store)

    def figures(model: WorldModel, step: int) -> dict[str, float]:
        engine = engine_of(model)
        return {**check.measure(engine).figures(), **dreams.figures(engine)}

    with progress_bar(f"train {args.preset}, {precision}", "updates") as bar:
        last = None

        def show(at: Progress) -> None:
            nonlocal last
            last = at
            skipped = f"  {at.skipped} skipped" if at.skipped else ""
            speed = f"{at.frames_per_second:.0f} frames/s  {at.gemm_share:.0%} of GEMM"
            psnr = at.measured.get("dream_psnr")
            dreamt = "" if psnr is None else f"  dream {psnr:.1f} dB"
            note = f"loss {at.loss:.3f}{skipped}  {speed}{dreamt}  {memory_note(at.measured)}"
            bar(at.step, at.expected, note.rstrip())

        out = train(store, args.out, model, args.objective, config, [figures], show, args.weights)
        if not is_first():  # of several processes one tells
            return
        if last is not None:
            bar(last.step, last.step, "measuring memory")
        trained = WorldModel.from_pretrained(out, model.backbone.backend).to(device_of(config.device))
        remembers = check.measure(trained).sentence()
    say(remembers)
    finish(f"World model written to {out}.", shown_by(out))


def memory_check(store: EpisodeStore, backbone: BackboneConfig, span: int) -> MemoryCheck:
    """On held-out episodes from all of the collection, or on those of the training if none is held out; those that are
    longer than the window, as far as there are any. `span` is that of the training's clips."""
    train_on, held_out = hold_out(store)
    window = window_of(backbone)
    # What grows with the history is not made much larger than it is in training.
    most = FRAMES if attention_reach(backbone) is not None else max(2 * span, window + 1)
    frames = np.minimum(store.lengths + 1, most)
    long = [i for i in held_out or train_on if frames[i] > window]
    # As many as have about the frames that are looked at, from the first collected to the last.
    count = min(len(long), 1 + round(FRAMES / frames[long].mean())) if long else 0
    chosen = [long[k * len(long) // count] for k in range(count)]
    episodes = [store.read(i, 0, int(frames[i])) for i in chosen]
    return MemoryCheck(episodes, window, "held-out" if held_out else "training")


def free_running(store: EpisodeStore) -> FreeRunning:
    """Dreams of the longest held-out episodes, or of those of the training if none is held out."""
    train_on, held_out = hold_out(store)
    return FreeRunning.of(store, held_out or train_on)
