"""The training loop: clips in, a run folder out; the same command resumes it."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from lssvwm_rl.data.clips import Batch, ClipSampler, StreamSampler, hold_out
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.checkpoint_weights import weights_as_now
from lssvwm_rl.model.config import ModelConfig, WorldModelConfig
from lssvwm_rl.model.doubt import write_scale
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.rates import gemm_rate
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.stopping import Stopped, noted_signals
from lssvwm_rl.training import run_folder
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.cpu import tune_process
from lssvwm_rl.training.fit import fit_fixed
from lssvwm_rl.training.log import Log, Progress, Sums
from lssvwm_rl.training.objective import Objective, ObjectiveConfig, check_objective
from lssvwm_rl.training.optimizer import learning_rate, load_optimizer, make_average, make_optimizer
from lssvwm_rl.training.precision import resolve_precision
from lssvwm_rl.training.rehearsal import Readings, Rehearsal
from lssvwm_rl.training.settling import settle_heads
from lssvwm_rl.training.work import update_flops

Callback = Callable[[WorldModel, int], dict[str, float]]
"""(EMA model, step) -> figures for the learning curve."""


def train(
    store: EpisodeStore,
    out: str | Path,
    model_config: WorldModelConfig,
    objective: ObjectiveConfig | None = None,
    config: TrainConfig | None = None,
    callbacks: Sequence[Callback] = (),
    on_progress: Callable[[Progress], None] | None = None,
    weights: str | Path | None = None,
    seen: int | None = None,
) -> Path:
    """Train a world model; what `out` has already is continued.

    Random numbers are a function of (seed, step), so a resumed run's losses equal an uninterrupted run's.

    Args:
        objective, config: the defaults if None.
        weights: checkpoint of the same sizes whose weights a new run starts from, for example to go on with other data.
        seen: real steps that these weights were trained on and that are not in the store; by default all of theirs.

    Returns:
        The run folder, whose EMA weights `WorldModel.from_pretrained` reads at any time.

    Raises:
        ValueError: if the store or the weights do not fit, `out` is another run, or another process trains there.
        FileNotFoundError: if there is no such checkpoint to start from.
        FloatingPointError: if the loss is not finite; the last checkpoint is kept.
        stopping.Stopped: if SIGINT or SIGTERM ended it early, with a checkpoint; the same call goes on from there.
    """
    out, objective, config = Path(out), objective or ObjectiveConfig(), config or TrainConfig()
    check_objective(objective, model_config.shortcut)
    if not len(store):
        raise ValueError(f"{store.path} has no episodes to train on; collect some with `lssvwm collect`.")
    store = run_folder.data_of_run(out, store)
    train_episodes, held_out = hold_out(store)
    initial = None if weights is None else _weights_for(model_config, weights)
    fabric = _fabric(config)
    fabric.launch()
    with ExitStack() as alone:
        if fabric.is_global_zero:
            alone.enter_context(run_folder.only_trainer(out))
            about = {**_data_of(store, weights, seen), **_settings(model_config, objective, config)}
            # Defaults of settings that a run of an older version does not name.
            defaults = {"weights": None, **_settings(ModelConfig(), ObjectiveConfig(), TrainConfig())}
            run_folder.prepare(out, about, store, held_out, defaults)
        fabric.barrier()
        tune_process()
        run = _Run(fabric, model_config, objective, config, out, initial, lambda m: fit_fixed(m, store, train_episodes))
        _train(run, store, train_episodes, held_out, callbacks, on_progress)
    return out


def _train(
    run: _Run,
    store: EpisodeStore,
    train_episodes: list[int],
    held_out: list[int],
    callbacks: Sequence[Callback],
    on_progress: Callable[[Progress], None] | None,
) -> None:
    """From where a run is to its end, or until a signal stops it; keeps what it finds."""
    fabric, config, model = run.fabric, run.config, run.model.config
    draws = (store, config.span, config.batch_size, config.seed + fabric.global_rank, train_episodes)
    history = config.history if model.reservoir.blocks or model.fast_weights.size else 0
    clips = StreamSampler(*draws) if config.stream else ClipSampler(*draws, history, config.newest)
    log = None
    if fabric.is_global_zero:
        preview = store[max(held_out or train_episodes, key=lambda i: store.lengths[i])]
        log = Log(run.out, config, preview, run.step, on_progress, gemm_rate(fabric.device), run.sums)
    with noted_signals() as signals:
        _go_on(run, clips, callbacks, log, signals)
        if run.done < 1:
            run.checkpoint()
        elif run.settled != run.step:
            run.checkpoint(lambda m: settle_heads(m, store, train_episodes, config.seed, held_out))
        if log is not None:
            log.close()
            write_scale(run.out, run.averaged)
        if run.done < 1:
            raise Stopped(signals[0], f"stopped at step {run.step}; repeat the command to go on from there")


class _Losses(nn.Module):
    """An objective with plain dicts in and out: Fabric, which casts what passes a module to the precision of the run,
    takes no frozen dataclasses."""

    def __init__(self, objective: Objective):
        super().__init__()
        self.objective = objective

    def forward(
        self, batch: dict[str, Any], memory: dict[str, Tensor] | None, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Tensor] | None, Readings | None]:
        start = None if memory is None else Memory.from_tensors(memory)
        losses, after, readings = self.objective(Batch(**batch), start, generator)
        return losses, None if after is None else after.tensors(), readings


class _Run:
    """Everything that an update changes, and how it is kept in the run folder."""

    def __init__(
        self,
        fabric: Fabric,
        model_config: WorldModelConfig,
        objective: ObjectiveConfig,
        config: TrainConfig,
        out: Path,
        initial: dict[str, Tensor] | None,
        fit: Callable[[WorldModel], None],
    ):
        torch.manual_seed(config.seed)
        self.fabric, self.objective, self.config, self.out = fabric, objective, config, out
        self.model = WorldModel(model_config)
        state = run_folder.load_state(out)
        if initial is not None:
            self.model.load_state_dict(initial)
        elif state is None:
            fit(self.model)
        optimizer = make_optimizer(self.model, config)
        self.rehearsal = Rehearsal(self.model.reward_head, self.model.continuation_head, reduce=self._average)
        self.ema = make_average(self.model, config.ema_decay)
        self.step, self.seconds, self.memory = 0, 0.0, None
        self.sums = Sums(0)
        self.settled = -1  # the step after which weights for inference were settled
        if state is not None:
            self.model.load_state_dict(weights_as_now(state["model"]))
            self.ema.load_state_dict(weights_as_now(state["ema"]))
            load_optimizer(optimizer, state["optimizer"], self.model.reward_head.ended)
            if "rehearsal" in state:
                self.rehearsal.load_state_dict(state["rehearsal"])
            self.step, self.seconds, self.settled = state["step"], state["seconds"], state.get("settled", -1)
            self.sums = Sums(**state.get("sums", {"since": self.step}))
            if "memory" in state:
                self.memory = Memory.from_tensors(state["memory"]).to(fabric.device)
        self.ema.to(fabric.device)
        self.averaged = cast(WorldModel, self.ema.module).eval()
        losses = _Losses(Objective(self.model, objective, config.activation_checkpointing))
        self.losses, self.optimizer = fabric.setup(losses, optimizer)
        self.generator = torch.Generator(fabric.device)
        self._before, self._began = self.seconds, time.monotonic()
        self._saved = self._began

    def _average(self, tensors: list[Tensor]) -> None:
        """Put into tensors their means over the devices."""
        for tensor in tensors if self.fabric.world_size > 1 else ():
            tensor.copy_(cast(Tensor, self.fabric.all_reduce(tensor)))

    @property
    def done(self) -> float:
        """The share of the training in [0, 1], by steps or by time, whichever is further."""
        by_time = 0.0 if self.config.minutes is None else self.seconds / (60 * self.config.minutes)
        return min(1.0, max(self.step / self.config.steps, by_time))

    def update(self, batch: Batch) -> dict[str, float]:
        """One step of the optimizer; the losses before it.

        Raises:
            FloatingPointError: if the loss is not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step, self.done)
        self.generator.manual_seed((self.config.seed + self.fabric.global_rank) * 1_000_003 + self.step)
        start = None
        if self.config.stream:
            start = self.model.initial_memory(self.config.batch_size)
            start = start if self.memory is None else start.where(batch.first[:, 0], self.memory)
        losses, after, readings = self.losses(vars(batch), None if start is None else start.tensors(), self.generator)
        self.memory = None if after is None else Memory.from_tensors(after)
        values = {name: float(value.detach()) for name, value in losses.items()}
        if not math.isfinite(values["total"]):
            raise FloatingPointError(
                f"The loss is {values['total']} at step {self.step}; {self.out} keeps its last checkpoint, try a lower "
                "learning rate."
            )
        self.optimizer.zero_grad()
        self.fabric.backward(losses["total"])
        self.fabric.clip_gradients(self.losses, self.optimizer, max_norm=self.config.grad_clip)
        self.optimizer.step()
        if readings is not None and len(readings.features):
            rate = self.optimizer.param_groups[0]["lr"] / self.config.learning_rate
            self.rehearsal.go(readings, rate, self.generator)
        self.ema.update_parameters(self.model)
        self.step += 1
        self.seconds = self._before + time.monotonic() - self._began
        return values

    def checkpoint_if_due(self) -> None:
        """`checkpoint`, unless the last one is recent."""
        if time.monotonic() - self._saved > 60 * self.config.checkpoint_minutes:
            self.checkpoint()
            self._saved = time.monotonic()

    def checkpoint(self, settle: Callable[[WorldModel], None] | None = None) -> None:
        """Write the averaged weights for inference, and what resumes the training.

        Args:
            settle: improves the weights for inference; a training that goes on later knows nothing of it.
        """
        if not self.fabric.is_global_zero:
            return
        modules = {"model": self.model, "ema": self.ema, "optimizer": self.optimizer}
        state: dict[str, Any] = {name: module.state_dict() for name, module in modules.items()}
        if self.memory is not None:
            state["memory"] = self.memory.tensors()
        if self.model.config.reservoir.blocks:
            state["rehearsal"] = self.rehearsal.state_dict()
        averaged = self.averaged
        if settle is not None:
            averaged, self.settled = copy.deepcopy(averaged), self.step
            settle(averaged)
        averaged.save_pretrained(self.out)
        state |= {"step": self.step, "seconds": self.seconds, "settled": self.settled}
        run_folder.save_state(self.out, {**state, "sums": dataclasses.asdict(self.sums)})


def _go_on(
    run: _Run,
    clips: ClipSampler | StreamSampler,
    callbacks: Sequence[Callback],
    log: Log | None,
    signals: Sequence[int],
) -> None:
    """Update until the training is done or a signal stops it."""
    config, sums = run.config, run.sums
    while run.done < 1 and not signals:
        step = run.step
        if callbacks and config.measure_every and (step % config.measure_every == 0 or not sums.measured):
            sums.measured = {k: float(v) for call in callbacks for k, v in call(run.averaged, step).items()}
        batch = clips.batch(step) if isinstance(clips, StreamSampler) else clips.batch(step, config.span_at(step))
        losses = run.update(batch.to(run.fabric.device))
        if log is not None:
            frames, flops = int(batch.mask.sum()), update_flops(run.model, run.objective, *batch.mask.shape)
            log.updated(run.step, run.seconds, run.done, frames, flops, losses, run.averaged)
        run.checkpoint_if_due()


def _data_of(store: EpisodeStore, weights: str | Path | None, seen: int | None) -> dict[str, Any]:
    if seen is None:
        seen = 0 if weights is None else run_folder.steps_of_data(weights)
    steps = int(store.lengths.sum()) + seen
    about = {"data": str(store.path), "episodes_of_data": len(store), "steps_of_data": steps}
    return {**about, "weights": None if weights is None else str(weights)}


def _settings(model: ModelConfig, objective: ObjectiveConfig, config: TrainConfig) -> dict[str, Any]:
    asdict = dataclasses.asdict
    return {"model": asdict(model), "objective": asdict(objective), "train": asdict(config)}


def _fabric(config: TrainConfig) -> Fabric:
    precision: Any = resolve_precision(config.precision, config.device)  # Fabric checks the name
    return Fabric(accelerator=config.device, devices=config.devices, precision=precision)


def _weights_for(config: WorldModelConfig, checkpoint: str | Path) -> dict[str, Tensor]:
    model = WorldModel.from_pretrained(checkpoint)
    # None of these shapes weights.
    backbone = dataclasses.replace(model.config.backbone, backend=config.backbone.backend)
    found = dataclasses.replace(model.config, backbone=backbone, noise_shift=config.noise_shift)
    for field in dataclasses.fields(config):
        ours, theirs = getattr(config, field.name), getattr(found, field.name)
        if ours != theirs and field.name != "token_noise":
            raise ValueError(
                f"The weights of {checkpoint} are for {field.name} {theirs}, this run has {ours}; use the same."
            )
    return model.state_dict()
