"""Updates whose loss or gradient is not finite are skipped and counted; three in a row end a run and can be studied."""

from __future__ import annotations

import csv
import dataclasses
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lssvwm_rl.data.clips import ClipSampler, hold_out
from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training import trainer
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.log import Progress
from lssvwm_rl.training.trainer import train
from support.small_models import DISCRETE, SMALL_RESERVOIR, small_config

MODEL = small_config(vector_size=2)
CONFIG = TrainConfig(batch_size=2, span=10, steps=8, log_every=1, warmup=2, preview_every=0, decay=0.0, device="cpu")
EXTREME = 1e30  # whose square is no number of fp32


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(trainer, "gemm_rate", lambda device: 1e9)


@pytest.fixture
def store(tmp_path) -> EpisodeStore:
    """One of twelve episodes has a vector that squares to infinity."""
    rng = np.random.default_rng(0)
    with EpisodeWriter(tmp_path / "data", StoreHeader((16, 16, 3), DISCRETE, {"v": 2})) as writer:
        for k in range(12):
            length = int(rng.integers(3, 10))
            frames, rewards = rng.integers(0, 256, (length + 1, 16, 16, 3), np.uint8), rng.random(length, np.float32)
            vectors = rng.standard_normal((length + 1, 2)).astype(np.float32)
            vectors[-1] = EXTREME if k == 2 else vectors[-1]
            actions = rng.integers(0, 4, length)
            writer.add(Episode(frames, actions, rewards, terminated=True, truncated=False, vectors=vectors))
    return EpisodeStore(tmp_path / "data")


def broken(store: EpisodeStore, steps: int) -> list[bool]:
    """Which updates have the episode in their batch."""
    clips = ClipSampler(store, CONFIG.span, CONFIG.batch_size, CONFIG.seed, hold_out(store)[0])
    return [bool((clips.batch(step).vectors.abs() > 1e20).any()) for step in range(steps)]


def rows(run) -> list[dict[str, str]]:
    with (run / "learning_curve.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_update_that_is_not_finite_is_skipped_and_counted(store, tmp_path):
    expected = broken(store, CONFIG.steps)
    assert 0 < sum(expected) < 4 and not expected[0]
    heard: list[Progress] = []
    run = train(store, tmp_path / "run", MODEL, None, CONFIG, on_progress=heard.append)
    assert [not math.isfinite(at.loss) for at in heard] == expected
    assert [at.skipped for at in heard] == np.cumsum(expected).tolist()
    assert [float(row["skipped"]) for row in rows(run)] == np.cumsum(expected).tolist()
    assert EventAccumulator(str(run)).Reload().Scalars("train/skipped")[-1].value == sum(expected)
    assert all(bool(w.isfinite().all()) for w in WorldModel.from_pretrained(run).parameters())
    # Rows of several updates are means over those that were taken.
    wide = train(store, tmp_path / "wide", MODEL, None, dataclasses.replace(CONFIG, log_every=CONFIG.steps))
    taken = [at.loss for at, skipped in zip(heard, expected, strict=True) if not skipped]
    assert float(rows(wide)[0]["total"]) == pytest.approx(np.mean(taken), rel=1e-5)


def test_a_skipped_update_changes_no_weights(store, tmp_path):
    first = broken(store, CONFIG.steps).index(True)
    model = dataclasses.replace(MODEL, reservoir=SMALL_RESERVOIR)
    for steps in (first, first + 1):
        config = dataclasses.replace(CONFIG, steps=steps)
        run = train(store, tmp_path / "run", model, None, config)
        state = torch.load(run / "trainer" / "state.pt", weights_only=True)
        if steps == first:
            before = state
    assert state["step"] == first + 1 and state["skipped"] == 1
    for part in ("model", "ema"):
        assert all(torch.equal(before[part][name], weight) for name, weight in state[part].items())


def plant(run, **changes) -> None:
    """A weight that is not finite, in the state of a run."""
    state = torch.load(run / "trainer" / "state.pt", weights_only=True)
    state["model"]["patch_in.weight"][0, 0] = float("nan")
    torch.save({**state, **changes}, run / "trainer" / "state.pt")


@pytest.mark.parametrize("before", [0, 1])
def test_three_in_a_row_end_the_run_and_leave_what_can_be_studied(store, tmp_path, before):
    run = train(store, tmp_path / "run", MODEL, None, dataclasses.replace(CONFIG, steps=1))
    plant(run, skipped=before)
    weights, last = (run / "model.safetensors").read_bytes(), 3 - before
    with pytest.raises(FloatingPointError, match=f"The loss is nan at step {last}.*--weights {run}") as stopped:
        train(store, run, MODEL, None, CONFIG)
    folder = run / "trainer" / "not_finite"
    assert str(folder) in str(stopped.value) and (run / "model.safetensors").read_bytes() == weights
    batch = vars(ClipSampler(store, CONFIG.span, CONFIG.batch_size, CONFIG.seed, hold_out(store)[0]).batch(last))
    kept = load_file(folder / "batch-0.safetensors")
    assert set(kept) == {name for name, part in batch.items() if part is not None}
    assert all(torch.equal(kept[name], batch[name]) for name in kept)
    state = torch.load(folder / "state.pt", weights_only=True)
    assert state["step"] == last and state["skipped"] == 3 and state["model"]["patch_in.weight"].isnan().any()
    assert torch.load(run / "trainer" / "state.pt", weights_only=True)["step"] == 1, "the last checkpoint"


def test_a_stream_keeps_a_memory_that_is_finite(store, tmp_path):
    config = dataclasses.replace(CONFIG, stream=True, span=3, steps=12)
    heard: list[Progress] = []
    run = train(store, tmp_path / "run", MODEL, None, config, on_progress=heard.append)
    assert 0 < heard[-1].skipped < 12 and math.isfinite(heard[-1].loss)
    state = torch.load(run / "trainer" / "state.pt", weights_only=True)
    assert all(bool(tensor.isfinite().all()) for tensor in state["memory"].values())


def test_a_learning_rate_that_is_too_high_says_so(store, tmp_path):
    config = dataclasses.replace(CONFIG, learning_rate=1e30, steps=30, warmup=0)
    with pytest.raises(FloatingPointError, match="lower learning rate and another --out"):
        train(store, tmp_path / "run", MODEL, None, config)
    assert not (tmp_path / "run" / "model.safetensors").exists()
