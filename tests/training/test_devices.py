"""Two processes give the losses and weights of one that computes all of their batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lssvwm_rl.data.clips import StreamSampler, hold_out
from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.curve import read_curve
from lssvwm_rl.training.devices import make_fabric
from support import train_on_devices
from support.small_models import CLOSE, DISCRETE

SCRIPT = Path(train_on_devices.__file__)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> EpisodeStore:
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    with EpisodeWriter(folder, StoreHeader((16, 16, 3), DISCRETE)) as writer:
        for length in (4, 9, 6, 3, 7, 5):
            frames = rng.integers(0, 256, (length + 1, 16, 16, 3), np.uint8)
            rewards = rng.random(length, np.float32)
            writer.add(Episode(frames, rng.integers(0, 4, length), rewards, terminated=True, truncated=False))
    return EpisodeStore(folder)


def trained(processes: int, store: EpisodeStore, out: Path, *strategy: str) -> None:
    words = [f"--nproc-per-node={processes}", "--standalone", str(SCRIPT), str(store.path), str(out), *strategy]
    _run([sys.executable, "-m", "torch.distributed.run", *words])


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(ROOT / part) for part in (".", "envs", "agents", "benchmarks", "tests"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory) -> tuple[Path, Path]:
    """Of one process and of two."""
    folders = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for processes, folder in enumerate(folders, 1):
        trained(processes, store, folder)
    return folders


def assert_same_state(ours: dict, theirs: dict) -> None:
    """Weights, their average, the optimizers' moments and a streamed memory."""
    parts = {part: ours[part] for part in ("model", "ema", "memory") if part in ours}
    moments = ours["optimizer"]["state"]
    assert moments and moments.keys() == theirs["optimizer"]["state"].keys()
    for part, tensors in parts.items():
        assert tensors.keys() == theirs[part].keys()
        for key, tensor in tensors.items():
            torch.testing.assert_close(theirs[part][key], tensor, **CLOSE)
    for number, state in moments.items():
        for key in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(theirs["optimizer"]["state"][number][key], state[key], **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("name", train_on_devices.TRAININGS)
def test_two_processes_train_as_one(store, runs, name):
    one, two = (json.loads((run / name / "losses.json").read_text()) for run in runs)
    assert len(one) == len(set(one)) == train_on_devices.CONFIG.steps
    np.testing.assert_allclose(two, one, rtol=1e-10)
    states = [torch.load(run / name / "trainer" / "state.pt", weights_only=True) for run in runs]
    assert_same_state(*states)
    if train_on_devices.TRAININGS[name].stream:  # of both processes, and it was needed where the run had been stopped
        assert len(states[1]["memory"]["frames"]) == 4
        clips = [StreamSampler(store, 3, 2, seed, hold_out(store)[0]).batch(train_on_devices.BROKEN) for seed in (0, 1)]
        assert not any(bool(batch.first[:, 0].any()) for batch in clips)
    else:
        assert states[0]["rehearsal"]["kept"]["rewards"].equal(states[1]["rehearsal"]["kept"]["rewards"])


@pytest.mark.slow
def test_the_command_ends_in_all_processes_with_the_checkpoint_that_one_writes(store, tmp_path):
    """Before the first one that is written for its time."""
    words = ["train", "--data", str(store.path), "--out", str(tmp_path / "run"), "--device", "cpu", "--devices", "2"]
    words += "--steps 2 --batch-size 2 --span 4 --preview-every 0 --measure-every 0 --model.grid 4 4".split()
    words += "--model.backbone.width 16 --model.backbone.blocks 1 --model.backbone.scan-head-size 8".split()
    words += "--model.backbone.attention-head-size 8 --model.reservoir.blocks 1".split()
    done = _run([sys.executable, "-m", "lssvwm_rl", *words])
    assert done.stdout.count("World model written to") == 1


@pytest.mark.slow
def test_what_is_measured_of_shards_is_measured_of_all_weights(runs):
    """And an average is put together to be written only in the process that writes."""
    (one,), two = ([json.loads(path.read_text()) for path in sorted(run.glob("heard-*.json"))] for run in runs)
    for each in two:
        assert [found["step"] for found in each["measured"]] == [0, 2, 4]
        for ours, theirs in zip(one["measured"], each["measured"], strict=True):
            assert theirs == pytest.approx(ours, rel=1e-7)
    assert one["measured"][0]["sizes"] != pytest.approx(one["measured"][1]["sizes"], rel=1e-6), "it has learnt"
    shown, checkpoint, at_the_end = 1, 1, 1
    assert one["to_write"] == two[0]["to_write"] == [True] * (shown + checkpoint + at_the_end)
    assert two[1]["to_write"] == [False] * (shown + checkpoint + at_the_end)
    rows = [read_curve(run / "shards") for run in runs]
    for ours, theirs in zip(*rows, strict=True):
        found = one["measured"][int(ours["step"]) // 2 - 1]
        assert (ours["sizes"], ours["psnr"]) == pytest.approx((found["sizes"], found["psnr"]), rel=1e-5)
        assert (theirs["sizes"], theirs["psnr"]) == pytest.approx((ours["sizes"], ours["psnr"]), rel=1e-5)
    assert [row["step"] for row in rows[0]] == [2, 4]


@pytest.mark.slow
@pytest.mark.parametrize("first, then", [((2, "fsdp"), (1, "ddp")), ((1, "ddp"), (2, "fsdp"))])
def test_a_training_goes_on_with_another_strategy_and_number_of_processes(store, runs, tmp_path, first, then):
    for processes, strategy in (first, then):
        trained(processes, store, tmp_path, strategy)
    whole, broken = (torch.load(run / "shards/trainer/state.pt", weights_only=True) for run in (runs[0], tmp_path))
    assert broken["step"] == whole["step"] == train_on_devices.CONFIG.steps
    assert_same_state(whole, broken)


def test_what_shards_cannot_do_is_refused(monkeypatch):
    config = TrainConfig(devices=2, device="cpu", strategy="fsdp", precision="16-mixed")
    with pytest.raises(ValueError, match="strategy fsdp trains in .*, not 16-mixed; use one of them or ddp"):
        make_fabric(config, True)
    for by_fabric, ours in (("ddp", "fsdp"), ("fsdp", "ddp"), ("deepspeed", "ddp")):
        monkeypatch.setenv("LT_STRATEGY", by_fabric)
        with pytest.raises(ValueError, match=f"--strategy {by_fabric}` is none .* with the two dashes"):
            make_fabric(replace(config, precision="32-true", strategy=ours), True)
    with pytest.raises(ValueError, match="strategy must be ddp or fsdp, got 'zero'"):
        replace(config, strategy="zero")


def test_processes_that_cannot_share_evenly_are_refused(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="of 3 devices cannot be shared evenly by 2 processes; start as many"):
        make_fabric(TrainConfig(devices=3, device="cpu"), True)
