"""The training loop: clips in, a run folder out; the same command resumes it."""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from lssvwm_rl.data.clips import ClipSampler, StreamSampler, hold_out
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training import run_folder
from lssvwm_rl.training.cpu import tune_process
from lssvwm_rl.training.log import log_preview, log_scalars, open_log

Callback = Callable[[WorldModel, int], dict[str, float]]
"""(EMA model, step) -> figures for the learning curve."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training; presets fill in what suits their size."""

    batch_size: int = 16
    """Clips per update and device."""
    span: int = 32
    """Frames per clip."""
    curriculum: tuple[tuple[int, int], ...] = ()
    """Stages (frames, updates) of other clips before those of `span`, for example shorter ones first."""
    stream: bool = False
    """Clips go on where the last ones ended, with the memory carried (no gradient passes through it), so that the
    training context is as long as the episodes, at the memory of one clip."""
    steps: int = 6_000
    """Updates in all."""
    minutes: float | None = None
    """Time in all, resumed sessions included; ends the training if it comes before `steps`."""
    learning_rate: float = 1e-3
    """Peak of AdamW's step size."""
    warmup: int = 100
    """Updates of linear warm-up."""
    decay: float = 0.2
    """Last part of the training in which the step size falls linearly to 0."""
    weight_decay: float = 0.01
    """AdamW's, on matrices only."""
    grad_clip: float = 1.0
    """Largest gradient norm."""
    ema_decay: float = 0.999
    """Of the averaged weights, which are what is saved for inference; smaller in the first updates."""
    seed: int = 0
    """Decides weights, clips and noise."""
    device: str = "auto"
    """Lightning Fabric's accelerator: auto, cpu, cuda, ..."""
    devices: int = 1
    """How many of them."""
    precision: str = "32-true"
    """Lightning Fabric's precision, for example bf16-mixed; the scan stays in fp32."""
    log_every: int = 20
    """Updates between rows of the learning curve."""
    measure_every: int = 250
    """Updates between measurements by callbacks; 0 for none."""
    preview_every: int = 1_000
    """Updates between videos of dreams; 0 for none."""
    activation_checkpointing: bool = False
    """Run layers again in the backward pass instead of keeping their activations."""
    checkpoint_minutes: float = 3.0
    """Time between checkpoints."""

    def __post_init__(self) -> None:
        if min(self.batch_size, self.steps, self.devices, self.log_every) < 1 or self.span < 2:
            raise ValueError(f"batch_size, steps, devices and log_every must be at least 1 and span 2, got {self}.")
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"minutes must be positive, got {self.minutes}.")
        if any(frames < 2 or updates < 1 for frames, updates in self.curriculum):
            raise ValueError(f"Stages need at least 2 frames and 1 update, got {self.curriculum}.")
        if self.stream and self.curriculum:
            raise ValueError("A stream has chunks of one span; leave out either the curriculum or stream.")
        if self.stream and self.devices > 1:
            raise ValueError(f"A stream's memory is on one device, not {self.devices}; leave out stream or use one.")

    def span_at(self, step: int) -> int:
        """Frames per clip at an update."""
        for frames, updates in self.curriculum:
            if step < updates:
                return frames
            step -= updates
        return self.span


@dataclass(frozen=True)
class Progress:
    """Told to the caller after every update."""

    step: int
    steps: int
    fraction: float
    """Of the training, by steps or by time, whichever is further."""
    loss: float
    frames_per_second: float
    seconds_left: float


def train(
    store: EpisodeStore,
    out: str | Path,
    model_config: WorldModelConfig,
    config: TrainConfig,
    callbacks: Sequence[Callback] = (),
    on_progress: Callable[[Progress], None] | None = None,
    weights: str | Path | None = None,
) -> Path:
    """Train a world model; what `out` has already is continued.

    Random numbers are a function of (seed, step), so a resumed run's losses equal an uninterrupted run's.

    Args:
        weights: checkpoint of the same sizes whose weights a new run starts from, for example to go on with other data.

    Returns:
        The run folder, whose EMA weights `WorldModel.from_pretrained` reads at any time.

    Raises:
        ValueError: if the store or the weights do not fit, or `out` is another run.
        FileNotFoundError: if there is no such checkpoint to start from.
        FloatingPointError: if the loss is not finite; the last checkpoint is kept.
    """
    out = Path(out)
    if not len(store):
        raise ValueError(f"{store.path} has no episodes to train on; collect some with `lssvwm collect`.")
    train_episodes, held_out = hold_out(store)
    about = {
        "data": str(store.path),
        "episodes_of_data": len(store),
        "steps_of_data": int(store.lengths.sum()) + (0 if weights is None else run_folder.steps_of_data(weights)),
        "weights": None if weights is None else str(weights),
        "model": dataclasses.asdict(model_config),
        "train": dataclasses.asdict(config),
    }
    initial = None if weights is None else _weights_for(model_config, weights)
    fabric = _fabric(config)
    fabric.launch()
    if fabric.is_global_zero:
        plain = WorldModelConfig(frame_shape=(2, 2, 1), action_space=model_config.action_space)
        defaults = {"weights": None, "model": dataclasses.asdict(plain), "train": dataclasses.asdict(TrainConfig())}
        run_folder.prepare(out, about, store, held_out, defaults)
    fabric.barrier()
    tune_process()
    torch.manual_seed(config.seed)
    model = WorldModel(model_config)
    if initial is not None:
        model.load_state_dict(initial)
    optimizer = torch.optim.AdamW(
        _parameter_groups(model, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.95), fused=True
    )
    ema = AveragedModel(model, multi_avg_fn=_ema_update(config.ema_decay))
    state = run_folder.load_state(out)
    step, seconds = 0, 0.0
    if state is not None:
        model.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
    ema.to(fabric.device)
    averaged = cast(WorldModel, ema.module).eval()
    wrapped, optimizer = fabric.setup(model, optimizer)
    wrapped.mark_forward_method("loss")
    wrapped.mark_forward_method("stream_loss")
    draws = (store, config.span, config.batch_size, config.seed + fabric.global_rank, train_episodes)
    clips, stream = (None, StreamSampler(*draws)) if config.stream else (ClipSampler(*draws), None)
    memory = None if state is None or "memory" not in state else Memory.from_tensors(state["memory"]).to(fabric.device)
    context = store[max(held_out or train_episodes, key=lambda i: store.lengths[i])]
    curve, log = run_folder.Curve(out, step), open_log(out, step)
    generator = torch.Generator(fabric.device)
    measured: dict[str, float] = {}
    sums: dict[str, float] = {}
    frames = 0
    began = saved = time.monotonic()
    before, logged, logged_at = seconds, step, began

    def checkpoint() -> None:
        if fabric.is_global_zero:
            tensors = {"model": model.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer.state_dict()}
            carried = {} if memory is None else {"memory": memory.tensors()}
            run_folder.save_state(out, {**tensors, **carried, "step": step, "seconds": seconds})
            averaged.save_pretrained(out)

    def done() -> float:
        by_time = 0.0 if config.minutes is None else seconds / (60 * config.minutes)
        return min(1.0, max(step / config.steps, by_time))

    done_before = done()
    with _stop_signals() as stopped:
        while done() < 1 and not stopped.is_set():
            if callbacks and config.measure_every and (step % config.measure_every == 0 or not measured):
                measured = {k: v for call in callbacks for k, v in call(averaged, step).items()}
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate(config, step, done())
            generator.manual_seed((config.seed + fabric.global_rank) * 1_000_003 + step)
            recompute = config.activation_checkpointing
            if stream is not None:
                batch = stream.batch(step).to(fabric.device)
                fresh = model.initial_memory(config.batch_size)
                memory = fresh if memory is None else fresh.where(batch.first[:, 0], memory)
                losses, memory = cast(Any, wrapped).stream_loss(batch, memory, generator, recompute)
            else:
                assert clips is not None
                batch = clips.batch(step, config.span_at(step)).to(fabric.device)
                losses = cast(Any, wrapped).loss(batch, generator, recompute)
            frames += int(batch.mask.sum())
            total = float(losses["total"].detach())
            if not math.isfinite(total):
                raise FloatingPointError(
                    f"The loss is {total} at step {step}; {out} keeps its last checkpoint, try a lower learning rate."
                )
            optimizer.zero_grad()
            fabric.backward(losses["total"])
            fabric.clip_gradients(wrapped, optimizer, max_norm=config.grad_clip)
            optimizer.step()
            ema.update_parameters(model)
            step += 1
            now = time.monotonic()
            seconds = before + now - began
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
            rate = frames * config.devices / max(now - logged_at, 1e-9)
            if on_progress is not None and fabric.is_global_zero:
                left = (now - began) * (1 - done()) / max(done() - done_before, 1e-9)
                on_progress(Progress(step, config.steps, done(), total, rate, left))
            if step % config.log_every == 0 and fabric.is_global_zero:
                means = {name: value / (step - logged) for name, value in sums.items()}
                row = {"step": step, "minutes": seconds / 60, "frames_per_second": rate, **means, **measured}
                curve.add(row)
                log_scalars(log, row, step)
                sums, frames, logged, logged_at = {}, 0, step, now
            if config.preview_every and step % config.preview_every == 0 and fabric.is_global_zero:
                log_preview(log, averaged, context, step, out)
            if now - saved > 60 * config.checkpoint_minutes:
                checkpoint()
                saved = time.monotonic()
    checkpoint()
    log.close()
    return out


def _fabric(config: TrainConfig) -> Fabric:
    precision: Any = config.precision  # Fabric checks the name
    return Fabric(accelerator=config.device, devices=config.devices, precision=precision)


def _weights_for(config: WorldModelConfig, checkpoint: str | Path) -> dict[str, Tensor]:
    model = WorldModel.from_pretrained(checkpoint)
    wanted, found = dataclasses.asdict(config), dataclasses.asdict(model.config)
    for settings in (wanted, found):
        del settings["backbone"]["backend"]
    sizes = ("frame_shape", "action_space", "vector_size", "grid", "backbone", "shortcut", "feature_size", "head_width")
    for name in sizes:
        if wanted[name] != found[name]:
            raise ValueError(
                f"The weights of {checkpoint} are for {name} {found[name]}, this run has {wanted[name]}; use the same."
            )
    return model.state_dict()


def _learning_rate(config: TrainConfig, step: int, done: float) -> float:
    """Linear warm-up, constant, linear to zero in the last part."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    fall = min(1.0, (1 - done) / config.decay) if config.decay > 0 else 1.0
    return config.learning_rate * warm * fall


def _parameter_groups(model: WorldModel, weight_decay: float) -> list[dict]:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _ema_update(decay: float) -> Callable:
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        n = int(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that the training ends with a checkpoint."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    previous = {s: signal.signal(s, lambda *_: stopped.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
