"""`lssvwm train`: learn a world model from a store; the same command resumes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Train:
    """Train a world model. What is not given comes from the preset."""

    data: Path
    """Store made by `lssvwm collect`."""
    out: Path
    """Run folder; a run that is there already is continued."""
    preset: Literal["tiny", "small", "base", "paper"] = "tiny"
    """Sizes of the model and settings of the training."""
    weights: str | None = None
    """Checkpoint of the same sizes to start from, for example to go on with other data."""
    kind: Literal["block_ssm", "block1_ssm", "ssm_local", "ssm", "window", "causal"] = "block_ssm"
    """What mixes frames; others than block_ssm are baselines with as many parameters."""
    actions_only: bool = False
    """Leave out the vectors of the store, for example the pose."""
    objective: Literal["two_stream", "prefix", "mix"] = "two_stream"
    """How clips are noised."""
    shortcut: bool = False
    """Learn to dream in one or two denoising steps."""
    stream: bool = False
    """Go through whole episodes with the memory carried from clip to clip."""
    curriculum: tuple[tuple[int, int], ...] = ()
    """Stages of (frames per clip, updates) before those of the span, for example 16 1000 32 1000."""
    activation_checkpointing: bool = False
    """Less memory for one more forward pass."""
    steps: int | None = None
    """Updates in all."""
    minutes: float | None = None
    """Time in all; ends the training if it comes before the steps."""
    batch_size: int | None = None
    """Clips per update."""
    span: int | None = None
    """Frames per clip."""
    learning_rate: float | None = None
    """Peak step size."""
    seed: int = 0
    """Decides weights, clips and noise."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    devices: int = 1
    """How many of them."""
    backend: Literal["auto", "torch", "mamba"] = "auto"
    """Of the scan; auto takes the kernels of mamba-ssm where there are any."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """bf16-mixed is faster; the scan stays in fp32."""


def main(args: Train) -> None:
    """Train.

    Raises:
        ValueError: if the store is broken, or `out` is another run.
        FloatingPointError: if the loss is not finite.
    """
    import dataclasses

    import torch
    from rich.progress import BarColumn, Progress, TextColumn

    from lssvwm_rl.data.store import EpisodeStore
    from lssvwm_rl.model.scan.mamba import resolve_backend
    from lssvwm_rl.training import trainer
    from lssvwm_rl.training.presets import PRESETS, model_config

    store = EpisodeStore(args.data)
    on_cuda = args.device == "cuda" or (args.device in ("auto", "gpu") and torch.cuda.is_available())
    try:
        resolve_backend(args.backend, torch.device("cuda" if on_cuda else "cpu"))
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    model = model_config(args.preset, store.header, args.kind, objective=args.objective, shortcut=args.shortcut)
    if args.actions_only:
        model = dataclasses.replace(model, vector_size=0)
    model = dataclasses.replace(model, backbone=dataclasses.replace(model.backbone, backend=args.backend))
    settings = {field.name for field in dataclasses.fields(trainer.TrainConfig)}
    given = {name: value for name, value in vars(args).items() if name in settings and value is not None}
    config = trainer.TrainConfig(**{**PRESETS[args.preset].train, **given})
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns) as bar:
        task = bar.add_task(f"Training {args.preset}", total=1.0, note="")

        def show(at: trainer.Progress) -> None:
            minutes, seconds = divmod(int(at.seconds_left), 60)
            note = (
                f"step {at.step}  loss {at.loss:.3f}  {at.frames_per_second:.0f} frames/s  {minutes}:{seconds:02d} left"
            )
            bar.update(task, completed=at.fraction, note=note)

        out = trainer.train(store, args.out, model, config, memory_callbacks(store), show, args.weights)
    print(f"World model written to {out}.")


def memory_callbacks(store) -> list:
    """What is measured while training: memory accuracy on the worlds where the last reward needs it."""
    from lssvwm_rl.data.clips import hold_out
    from lssvwm_rl.measures.memory_reward import memory_reward_callback, needs_memory

    held_out = [store[i] for i in hold_out(store)[1][:128]]
    return [memory_reward_callback(held_out)] if needs_memory(store.header, held_out) else []
