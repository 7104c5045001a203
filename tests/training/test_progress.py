"""What a run tells of its speed, and which precision "auto" takes."""

from __future__ import annotations

import csv
import dataclasses
import time

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.flop_counter import FlopCounterMode

from lssvwm_rl.data.clips import ClipSampler
from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.model import rates
from lssvwm_rl.model.rates import bf16_pays, gemm_rate
from lssvwm_rl.training import precision, trainer
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.log import Progress
from lssvwm_rl.training.objective import OBJECTIVES, Objective, ObjectiveConfig
from lssvwm_rl.training.precision import device_of, resolve_precision
from lssvwm_rl.training.trainer import train
from lssvwm_rl.training.work import update_flops
from support.small_models import BACKBONE, DISCRETE, random_batch, small_config, small_model

CONFIG = TrainConfig(batch_size=2, span=6, steps=4, log_every=2, warmup=2, preview_every=0, decay=0.0, device="cpu")


@pytest.fixture
def store(tmp_path) -> EpisodeStore:
    rng = np.random.default_rng(0)
    with EpisodeWriter(tmp_path / "data", StoreHeader((16, 16, 3), DISCRETE)) as writer:
        for length in (8, 9, 6, 7):
            frames = rng.integers(0, 256, (length + 1, 16, 16, 3), np.uint8)
            rewards = np.zeros(length, np.float32)
            writer.add(Episode(frames, rng.integers(0, 4, length), rewards, terminated=True, truncated=False))
    return EpisodeStore(tmp_path / "data")


def slow_from(first: int, batch):
    """A sampler's `batch` that takes longer than all else from an update on."""

    def slow(sampler, step, span):
        time.sleep(0.2 if step >= first else 0)
        return batch(sampler, step, span)

    return slow


def test_a_run_tells_its_speed_and_its_share_of_the_machine(store, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "gemm_rate", lambda device: 1e9)
    monkeypatch.setattr(ClipSampler, "batch", slow_from(1, ClipSampler.batch))
    heard: list[Progress] = []
    config = dataclasses.replace(CONFIG, measure_every=3)
    steps = [lambda model, step: {"measured_at": step}]
    run = train(store, tmp_path / "run", small_config(), None, config, steps, heard.append)
    assert [at.step for at in heard] == [1, 2, 3, 4]
    assert [at.measured for at in heard] == [{"measured_at": step} for step in (0, 0, 0, 3)]
    flops = update_flops(small_model(), ObjectiveConfig(), 2, 6)
    for at in heard:
        assert at.gemm_share == pytest.approx(at.updates_per_second * flops / 1e9)
        assert at.frames_per_second == pytest.approx(at.updates_per_second * 12)
    assert 0 < heard[0].data_share < heard[1].data_share < 1  # of the second batch, which was slow to come
    with (run / "learning_curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["gemm_share"]) for row in rows] == pytest.approx([heard[1].gemm_share, heard[3].gemm_share], 1e-4)
    events = EventAccumulator(str(run)).Reload()
    for name in ("updates_per_second", "gemm_share", "frames_per_second", "data_share"):
        assert [event.step for event in events.Scalars(f"train/{name}")] == [2, 4]


@pytest.mark.parametrize("objective", ["two_stream", "prefix"])
@pytest.mark.parametrize("kind", ["block_ssm", "ssm"])
def test_the_estimate_is_what_is_computed(kind, objective):
    """Sizes in which matrices are most of the work, as they are in real models."""
    sizes = dataclasses.replace(BACKBONE, kind=kind, width=128, scan_head_size=32, backend="torch")
    model, config = small_model(backbone=sizes, head_width=64), ObjectiveConfig(name=objective)
    batch = random_batch(model, [32] * 2, 32)
    with FlopCounterMode(display=False) as counter:
        losses, *_ = Objective(model, config)(batch, None, torch.Generator().manual_seed(0))
        losses["total"].backward()
    assert update_flops(model, config, 2, 32) == pytest.approx(counter.get_total_flops(), rel=0.15)


def test_an_objective_that_takes_ways_by_chance_computes_their_mean():
    each = {name: update_flops(small_model(), ObjectiveConfig(name=name), 2, 8) for name in OBJECTIVES}
    assert each["mix"] == pytest.approx((each["two_stream"] + each["prefix"]) / 2)


def test_rates_are_rates():
    assert 1e8 < gemm_rate(size=256, repeats=3) < 1e14
    assert 1e7 < gemm_rate(size=64, repeats=3, dtype=torch.bfloat16) < 1e14
    assert bf16_pays() == (rates._bf16_gain("cpu") >= rates.BF16_GAIN)


@pytest.mark.parametrize(("pays", "chosen"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_takes_what_is_faster_and_goes_on_elsewhere(store, tmp_path, monkeypatch, pays, chosen):
    monkeypatch.setattr(precision, "bf16_pays", lambda device: pays)
    assert resolve_precision("auto", "cpu") == chosen and resolve_precision("64-true", "cpu") == "64-true"
    auto = dataclasses.replace(CONFIG, precision="auto", log_every=1)
    named = dataclasses.replace(auto, precision=chosen)
    runs = [train(store, tmp_path / c.precision, small_config(), None, c) for c in (auto, named)]
    totals = []
    for run in runs:
        with (run / "learning_curve.csv").open(newline="") as file:
            totals.append([row["total"] for row in csv.DictReader(file)])
    assert totals[0] == totals[1]
    assert yaml.safe_load((runs[0] / "config.yaml").read_text())["train"]["precision"] == "auto"
    monkeypatch.setattr(precision, "bf16_pays", lambda device: not pays)  # another machine
    train(store, runs[0], small_config(), None, dataclasses.replace(auto, steps=5))
    with pytest.raises(ValueError, match=f"train.precision {chosen}, not auto"):
        train(store, runs[1], small_config(), None, dataclasses.replace(auto, steps=5))


def test_the_device_of_an_accelerator(monkeypatch):
    assert device_of("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert [device_of(name).type for name in ("auto", "gpu", "cuda", "cpu")] == ["cuda", "cuda", "cuda", "cpu"]
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert device_of("auto").type == "cpu"
