"""The training loop: clips in, a run folder out; the same command resumes it."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lssvwm_rl.data.clips import ClipSampler, StreamSampler, hold_out
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.config import ModelConfig, WorldModelConfig
from lssvwm_rl.model.doubt import write_scale
from lssvwm_rl.model.rates import gemm_rate
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.phases import flat_settings
from lssvwm_rl.stopping import Stopped, noted_signals
from lssvwm_rl.training import run_folder
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.cpu import tune_process
from lssvwm_rl.training.devices import make_fabric
from lssvwm_rl.training.fit import fit_fixed
from lssvwm_rl.training.log import Log, Progress
from lssvwm_rl.training.objective import ObjectiveConfig, check_objective
from lssvwm_rl.training.reward_scale import rewards_of, suited_scale
from lssvwm_rl.training.run import Run
from lssvwm_rl.training.settling import settle_heads
from lssvwm_rl.training.work import update_flops

LOGITS = "reward_head.mlp.2."  # begins the names of what becomes probabilities of rewards

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
        model_config: of which a reward scale that does not suit the data is replaced.
        objective: what is minimised; the defaults if None.
        config: of the training; the defaults if None.
        weights: checkpoint of the same sizes whose weights a new run starts from, for example to go on with other data.
        seen: real steps that these weights were trained on and that are not in the store; by default all of theirs.

    Returns:
        The run folder, whose EMA weights `WorldModel.from_pretrained` reads at any time.

    Raises:
        ValueError: if the store has no episodes or rewards that are not finite, the weights do not fit, `out` is
            another run, or another process trains there.
        FileNotFoundError: if there is no such checkpoint to start from.
        FloatingPointError: if losses or gradients were not finite in three updates in a row (single ones are skipped);
            the last checkpoint is kept, and beside it the batch and the state.
        stopping.Stopped: if SIGINT or SIGTERM ended it early, with a checkpoint; the same call goes on from there.
    """
    out, objective, config = Path(out), objective or ObjectiveConfig(), config or TrainConfig()
    check_objective(objective, model_config.shortcut)
    if not len(store):
        raise ValueError(f"{store.path} has no episodes to train on; collect some with `lssvwm collect`.")
    store = run_folder.data_of_run(out, store)
    train_episodes, held_out = hold_out(store)
    model_config, initial = _begin(store, out, model_config, weights)
    fabric = make_fabric(config, all_weights=objective.recall_weight > 0)
    with ExitStack() as alone:
        if fabric.is_global_zero:
            alone.enter_context(run_folder.only_trainer(out))
            about = {**_data_of(store, weights, seen), **_settings(model_config, objective, config)}
            # Defaults of settings that a run of an older version does not name.
            defaults = {"weights": None, **_settings(ModelConfig(), ObjectiveConfig(), TrainConfig())}
            defaults["model"]["reward_scale"] = 1.0
            run_folder.prepare(out, about, store, held_out, defaults)
        fabric.barrier()
        tune_process()
        run = Run(fabric, model_config, objective, config, out, initial, lambda m: fit_fixed(m, store, train_episodes))
        _train(run, store, train_episodes, held_out, callbacks, on_progress)
        fabric.barrier()  # whoever reads the checkpoint next, in whatever process, finds the last one
    return out


def _train(
    run: Run,
    store: EpisodeStore,
    train_episodes: list[int],
    held_out: list[int],
    callbacks: Sequence[Callback],
    on_progress: Callable[[Progress], None] | None,
) -> None:
    """From where a run is to its end, or until a signal stops it; keeps what it finds."""
    fabric, config, model = run.fabric, run.config, run.model.config
    history = config.history if model.reservoir.blocks or model.fast_weights.size else 0
    clips: list[ClipSampler] | list[StreamSampler]
    draws = [(store, config.span, config.batch_size, config.seed + share, train_episodes) for share in run.shares]
    if config.stream:
        clips = [StreamSampler(*each) for each in draws]
    else:
        clips = [ClipSampler(*each, history, config.newest, config.by_length) for each in draws]
    log = None
    if fabric.is_global_zero:
        preview = store[max(held_out or train_episodes, key=lambda i: store.lengths[i])]
        log = Log(run.out, config, preview, run.step, on_progress, gemm_rate(fabric.device), run.sums)
    with noted_signals() as signals:
        stopped = _go_on(run, clips, callbacks, log, signals)
        if run.done < 1:
            run.checkpoint()
        elif run.settled != run.step:
            run.checkpoint(lambda m: settle_heads(m, store, train_episodes, config.seed, held_out))
        average = run.written_average()
        if log is not None and average is not None:
            settings = _settings(model, run.objective, config)
            log.close(flat_settings(settings) if run.done >= 1 else None)
            write_scale(run.out, average)
        if run.done < 1:
            raise Stopped(stopped, f"stopped at step {run.step}; repeat the command to go on from there")


def _go_on(
    run: Run,
    clips: Sequence[ClipSampler] | Sequence[StreamSampler],
    callbacks: Sequence[Callback],
    log: Log | None,
    signals: Sequence[int],
) -> int:
    """Update until the training is done or a signal stops it, whose number is returned, else 0."""
    config, sums, device = run.config, run.sums, run.fabric.device
    while not (stopped := run.agree(signals)) and run.done < 1:
        step = run.step
        if callbacks and config.measure_every and (step % config.measure_every == 0 or not sums.measured):
            sums.measured = _measured(run.average(), step, callbacks)
        began = time.perf_counter()
        batches = [
            each.batch(step) if isinstance(each, StreamSampler) else each.batch(step, config.span_at(step))
            for each in clips
        ]
        waited = time.perf_counter() - began
        update = run.update([batch.to(device) for batch in batches])
        shown = run.written_average() if config.preview_every and run.step % config.preview_every == 0 else None
        if log is not None:
            frames = sum(int(batch.mask.sum()) for batch in batches) * run.fabric.world_size
            flops = sum(update_flops(run.model, run.objective, *batch.mask.shape) for batch in batches)
            log.updated(run.step, run.seconds, run.done, frames, flops, waited, update, shown)
        if run.checkpoint_if_due() and log is not None:
            log.keep()
    return stopped


def _measured(model: WorldModel, step: int, callbacks: Sequence[Callback]) -> dict[str, float]:
    """What all callbacks say. Only here is the model held, which may be one that was put together for it."""
    return {k: float(v) for call in callbacks for k, v in call(model, step).items()}


def _data_of(store: EpisodeStore, weights: str | Path | None, seen: int | None) -> dict[str, Any]:
    if seen is None:
        seen = 0 if weights is None else run_folder.steps_of_data(weights)
    steps = int(store.lengths.sum()) + seen
    about = {"data": str(store.path), "episodes_of_data": len(store), "steps_of_data": steps}
    return {**about, "weights": None if weights is None else str(weights)}


def _settings(model: ModelConfig, objective: ObjectiveConfig, config: TrainConfig) -> dict[str, Any]:
    asdict = dataclasses.asdict
    return {"model": asdict(model), "objective": asdict(objective), "train": asdict(config)}


def _begin(
    store: EpisodeStore, out: Path, config: WorldModelConfig, checkpoint: str | Path | None
) -> tuple[WorldModelConfig, dict[str, Tensor] | None]:
    """The config with a reward scale for the data, or that of the run there is; and a checkpoint's weights."""
    initial, before = (None, config.reward_scale) if checkpoint is None else _weights_for(config, checkpoint)
    rewards = rewards_of(store)
    begun = run_folder.reward_scale_of(out)
    scale = suited_scale(rewards, before) if begun is None else begun
    if initial is not None and scale != before:
        if begun is None:
            warnings.warn(
                f"Rewards of {store.path} go up to {np.abs(rewards).max():.4g}, the weights of {checkpoint} know them "
                f"in units of {before:g}; the reward head begins anew, in units of {scale:g}.",
                RuntimeWarning,
                stacklevel=3,
            )
        for name in (n for n in initial if n.startswith(LOGITS)):
            initial[name] = torch.zeros_like(initial[name])
    return dataclasses.replace(config, reward_scale=scale), initial


def _weights_for(config: WorldModelConfig, checkpoint: str | Path) -> tuple[dict[str, Tensor], float]:
    """Weights of a checkpoint of the same sizes, and its reward scale."""
    model = WorldModel.from_pretrained(checkpoint)
    # None of these shapes weights.
    backbone = dataclasses.replace(model.config.backbone, backend=config.backbone.backend)
    found = dataclasses.replace(
        model.config, backbone=backbone, noise_shift=config.noise_shift, reward_scale=config.reward_scale
    )
    for field in dataclasses.fields(config):
        ours, theirs = getattr(config, field.name), getattr(found, field.name)
        if ours != theirs and field.name != "token_noise":
            raise ValueError(
                f"The weights of {checkpoint} are for {field.name} {theirs}, this run has {ours}; use the same."
            )
    return model.state_dict(), model.config.reward_scale
