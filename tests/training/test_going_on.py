"""Runs that go on: beside another process, in the middle of a row, with a store that has grown, after a full disk."""

from __future__ import annotations

import csv
import dataclasses
import os
import signal

import numpy as np
import pytest
import torch
import yaml

from lssvwm_rl.cli import main
from lssvwm_rl.cli import run as run_command
from lssvwm_rl.command import Command
from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training import trainer
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.curve import HOW_FAST
from lssvwm_rl.training.trainer import train
from support.full_disk import files_up_to
from support.neighbours import neighbour
from support.small_models import DISCRETE, small_config

MODEL = small_config()
CONFIG = TrainConfig(batch_size=2, span=6, steps=6, log_every=4, warmup=2, preview_every=0, decay=0.0, device="cpu")
WORDS = "--model.backbone.width 32 --model.backbone.blocks 1 --model.feature-size 12 --model.head-width 32 "
WORDS += "--batch-size 2 --span 8 --log-every 1 --preview-every 0 --measure-every 2 --device cpu --steps 2"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(trainer, "gemm_rate", lambda device: 1e9)


def add(folder, lengths, seed=0) -> EpisodeStore:
    rng = np.random.default_rng(seed)
    with EpisodeWriter(folder, StoreHeader((16, 16, 3), DISCRETE)) as writer:
        for length in lengths:
            frames = rng.integers(0, 256, (length + 1, 16, 16, 3), np.uint8)
            rewards = rng.random(length, np.float32)
            writer.add(Episode(frames, rng.integers(0, 4, length), rewards, terminated=True, truncated=False))
    return EpisodeStore(folder)


@pytest.fixture
def store(tmp_path) -> EpisodeStore:
    return add(tmp_path / "data", (4, 9, 6, 3, 7, 5))


def rows(run) -> list[dict[str, str]]:
    with (run / "learning_curve.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in HOW_FAST} for row in csv.DictReader(file)]


def same_weights(a, b) -> bool:
    ours, theirs = (WorldModel.from_pretrained(run).state_dict() for run in (a, b))
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_curve_of_a_resumed_run_is_that_of_one_without_a_break(store, tmp_path):
    config = dataclasses.replace(CONFIG, steps=8, measure_every=3)

    def figures(model, step):
        return {"at": np.float64(step), "weight": float(next(model.parameters()).detach().double().abs().sum())}

    whole = train(store, tmp_path / "whole", MODEL, None, config, [figures])
    for steps in (2, 5, 8):  # both breaks are in the middle of a row, and between measurements
        part = train(store, tmp_path / "part", MODEL, None, dataclasses.replace(config, steps=steps), [figures])
    assert rows(part) == rows(whole) and [row["step"] for row in rows(whole)] == ["4", "8"]
    assert [row["at"] for row in rows(whole)] == ["3", "6"] and same_weights(part, whole)


def test_a_run_of_an_earlier_version_goes_on_without_sums(store, tmp_path):
    run = train(store, tmp_path / "run", MODEL, None, dataclasses.replace(CONFIG, steps=2))
    state = torch.load(run / "trainer" / "state.pt", weights_only=True)
    del state["sums"]
    torch.save(state, run / "trainer" / "state.pt")
    whole = train(store, tmp_path / "whole", MODEL, None, dataclasses.replace(CONFIG, log_every=1))
    train(store, run, MODEL, None, CONFIG)
    mean = np.mean([float(row["total"]) for row in rows(whole)[2:4]])
    assert float(rows(run)[0]["total"]) == pytest.approx(mean, rel=1e-4)


def test_a_second_trainer_is_told_and_changes_nothing(store, tmp_path, capsys):
    words = ["train", "--data", str(store.path), "--out", str(tmp_path / "run"), *WORDS.split()]
    main(words)
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    capsys.readouterr()
    with neighbour(tmp_path / "run"):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--log-every", "2"])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and f"is writing to the run {tmp_path / 'run'}; wait until it ends" in error
        assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before
    main(words)


def test_a_run_goes_on_with_the_episodes_that_it_was_begun_with(store, tmp_path):
    whole = train(store, tmp_path / "whole", MODEL, None, CONFIG)
    part = train(store, tmp_path / "part", MODEL, None, dataclasses.replace(CONFIG, steps=3))
    grown = add(store.path, (8, 2, 5), seed=1)
    with pytest.warns(RuntimeWarning, match=rf"goes on with the first 6 of 9 episodes.* --weights {part}"):
        train(grown, part, MODEL, None, CONFIG)
    assert rows(part) == rows(whole) and same_weights(part, whole)
    assert yaml.safe_load((part / "config.yaml").read_text())["episodes_of_data"] == 6
    other = train(grown, tmp_path / "other", MODEL, None, dataclasses.replace(CONFIG, steps=1), weights=part)
    assert yaml.safe_load((other / "config.yaml").read_text())["episodes_of_data"] == 9
    with pytest.raises(ValueError, match="is a run with episodes_of_data 9, not 6"):
        train(grown.first(6), other, MODEL, None, CONFIG)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_training_that_is_stopped_says_where_and_ends_as_one_that_was_not(number, code, store, tmp_path, capsys):
    whole = train(store, tmp_path / "whole", MODEL, None, CONFIG)

    def stop_at_two(at) -> None:
        if at.step == 2:
            os.kill(os.getpid(), number)

    options = dataclasses.make_dataclass("Options", [])
    with pytest.raises(SystemExit) as stop:
        go = Command(
            "lssvwm train", options, lambda _: train(store, tmp_path / "run", MODEL, None, CONFIG, (), stop_at_two)
        )
        run_command(go, [])
    assert stop.value.code == code
    assert capsys.readouterr().err == "lssvwm train: stopped at step 2; repeat the command to go on from there.\n"
    assert torch.load(tmp_path / "run" / "trainer" / "state.pt", weights_only=True)["step"] == 2
    ours, theirs = (
        WorldModel.from_pretrained(run).state_dict()
        for run in (train(store, tmp_path / "run", MODEL, None, CONFIG), whole)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_disk_that_is_full_is_a_sentence_and_leaves_the_last_checkpoint(store, tmp_path, capsys):
    run = train(store, tmp_path / "run", MODEL, None, dataclasses.replace(CONFIG, steps=2))
    before = (run / "trainer" / "state.pt").read_bytes()
    options = dataclasses.make_dataclass("Options", [])

    def go_on(_) -> None:
        train(store, run, MODEL, None, CONFIG)

    for limit in (0, 20_000, len(before) - 100):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop, files_up_to(limit):
            run_command(Command("lssvwm train", options, go_on), [])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.startswith("lssvwm train: ") and "; free some space" in error
        assert len(error.splitlines()) == 1
        assert (run / "trainer" / "state.pt").read_bytes() == before and not list(run.rglob(".tmp-*"))
    train(store, run, MODEL, None, CONFIG)
    assert same_weights(run, train(store, tmp_path / "whole", MODEL, None, CONFIG))


def test_a_folder_that_cannot_be_written_is_a_sentence(store, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        main(["train", "--data", str(store.path), "--out", str(tmp_path / "file" / "run"), *WORDS.split()])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("lssvwm train: Not a directory (") and "file" in error
