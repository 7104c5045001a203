"""`lssvwm train` says whether memory formed."""

from __future__ import annotations

import csv
import dataclasses
import re

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lssvwm_rl.cli import main
from lssvwm_rl.commands import train as command
from lssvwm_rl.commands.train import memory_check
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training import trainer
from support.cues import cue_episodes
from support.small_models import BACKBONE, DISCRETE

SIZES = "--model.backbone.width 32 --model.backbone.blocks 1 --model.feature-size 12 --model.head-width 32"
# Heads that settle on a reservoir remember after three updates.
SIZES += " --model.reservoir.blocks"
SETTINGS = "--batch-size 2 --span 8 --log-every 1 --preview-every 0 --measure-every 2 --device cpu"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(trainer, "gemm_rate", lambda device: 1e9)


def store_of(folder, episodes) -> EpisodeStore:
    with EpisodeWriter(folder, StoreHeader((16, 16, 3), DISCRETE)) as writer:
        for episode in episodes:
            writer.add(episode)
    return EpisodeStore(folder)


def test_memory_is_in_the_sentence_the_curve_the_events_and_the_progress(tmp_path, capsys, monkeypatch):
    store_of(tmp_path / "data", [e for e in cue_episodes(8) for _ in range(20)])
    notes = []

    class Bar:
        def __enter__(self):
            return lambda done, total, note="": notes.append(note)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(command, "progress_bar", lambda description, unit: Bar())
    words = f"train --data {tmp_path / 'data'} --out {tmp_path / 'run'} --steps 3 {SIZES} {SETTINGS}".split()
    main(words)
    sentence, written = capsys.readouterr().out.splitlines()
    assert sentence.startswith("No memory formed: beyond its window of 4 frames the model predicts held-out episodes")
    run = tmp_path / "run"
    assert written == f"World model written to {run}. Next: lssvwm dream --checkpoint {run}"
    with (tmp_path / "run" / "learning_curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = {"memory_recall_psnr", "memory_recall_psnr_wiped", "memory_recall_gain_from_8", "memory_reward_accuracy"}
    assert names | {"memory_reward_accuracy_wiped", "memory_reward_reach"} <= set(rows[0]) and len(rows) == 3
    assert rows[0]["memory_recall_psnr"] == rows[1]["memory_recall_psnr"] != rows[2]["memory_recall_psnr"]
    of_dreams = [row[name] for row in rows for name in ("dream_psnr", "dream_psnr_one_step_copy")]
    assert of_dreams[:2] == of_dreams[2:4] and of_dreams[4] != of_dreams[0] and of_dreams[5] == of_dreams[1]
    assert "train/memory_recall_psnr" in EventAccumulator(str(tmp_path / "run")).Reload().Tags()["scalars"]
    assert notes.pop() == "measuring memory" and len(notes) == 3
    assert all(
        re.search(r"  dream \d+\.\d dB  memory [+-]\d\.\d dB, reward 0\.\d\d / 0\.\d\d$", note) for note in notes
    )
    main([*words, "--measure-every", "0"])
    assert capsys.readouterr().out.splitlines() == [sentence, written], "a run that is done says it again"


def test_what_is_learnt_does_not_depend_on_what_is_measured(tmp_path):
    store_of(tmp_path / "data", cue_episodes(8))
    weights = []
    for every in ("0", "1"):
        out = tmp_path / every
        words = f"train --data {tmp_path / 'data'} --out {out} --steps 2 {SIZES} {SETTINGS} --measure-every {every}"
        main(words.split())
        weights.append(WorldModel.from_pretrained(out).state_dict())
        with (out / "learning_curve.csv").open(newline="") as file:
            assert ("dream_psnr" in next(csv.reader(file))) == (every == "1")
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_episodes_are_held_out_long_ones_from_all_of_the_collection(tmp_path):
    short = [e.cut(0, 3) for e in cue_episodes(40)]
    store = store_of(tmp_path / "mixed", [*short, *cue_episodes(40)])
    check = memory_check(store, BACKBONE, 32)
    assert check.of == "held-out" and [len(e.frames) for e in check.episodes] == [15] * 4
    many = store_of(tmp_path / "many", [e.cut(0, 4 + k // 2000) for k in range(8000) for e in cue_episodes(1)])
    lengths = [len(e.frames) for e in memory_check(many, BACKBONE, 32).episodes]
    assert set(lengths) == {4, 5, 6, 7} and 2000 < sum(lengths) <= 2048
    causal = memory_check(store, dataclasses.replace(BACKBONE, kind="causal"), 4)
    assert [len(e.frames) for e in causal.episodes] == [8] * 4, "twice the span: its memory grows with the history"
    alone = memory_check(store_of(tmp_path / "alone", cue_episodes(1)), BACKBONE, 32)
    assert alone.of == "training" and len(alone.episodes) == 1
    nothing = memory_check(store_of(tmp_path / "short", short), BACKBONE, 32)
    assert nothing.of == "held-out" and not nothing.episodes
