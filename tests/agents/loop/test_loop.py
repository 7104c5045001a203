"""The loop goes round, goes on where it was killed, and says what it cannot do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lssvwm_agents.imagination import DreamTrainConfig
from lssvwm_agents.loop import LoopConfig, Piece, loop, phases
from lssvwm_agents.loop.outcome import best_of, parted
from lssvwm_agents.loop.phases import Place
from lssvwm_agents.offline import OfflineConfig
from lssvwm_agents.policies import load_policy
from lssvwm_envs.make import EnvSetup
from lssvwm_rl.checked_text import write_checked
from lssvwm_rl.cli import main
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter
from lssvwm_rl.model.checkpoints import load_contexts
from lssvwm_rl.training.run_folder import steps_of_data

ENV_ID = "MiniGrid-MemoryS7-v0"
DREAMS = DreamTrainConfig(total_steps=64, num_envs=4, rollout_steps=8, batch_size=32, horizon=6, start=0.5)
SMALL = LoopConfig(
    rounds=2, explore_episodes=12, random_episodes=2, rare_episodes=2, play_episodes=2, num_envs=2, first_updates=2,
    updates=1, pieces=1, dreams=DREAMS, check_episodes=2,
)  # fmt: skip
PIECE = Piece(1, 1, 0.5, 0.4, 0.05, 0.4, 50, 100, 100, 1.0)


def files(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


@pytest.mark.slow
def test_it_goes_round_and_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    out, said = tmp_path / "loop", []
    check = phases.check

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(phases, "check", killed)
    with pytest.raises(KeyboardInterrupt):
        loop(ENV_ID, out, replace(SMALL, rounds=1), say=said.append)
    monkeypatch.setattr(phases, "check", check)
    before = files(out)
    first = loop(ENV_ID, out, replace(SMALL, rounds=1), say=said.append)
    assert before.items() <= files(out).items()  # nothing was trained again
    pieces = loop(ENV_ID, out, SMALL, say=said.append)
    assert pieces[:1] == first and [(p.round, p.piece) for p in pieces] == [(1, 1), (2, 1)]
    names = ("explored", "random", "round-1/played-1", "round-2/rare", "round-2/played-1")
    steps = [int(EpisodeStore(out / name).lengths.sum()) for name in names]
    assert [p.real_steps for p in pieces] == [sum(steps[:3]), sum(steps)]
    assert len(EpisodeStore(out / "round-2" / "data")) == 12 + 2 + 2 + 2
    assert steps_of_data(out / "round-2" / "world") == sum(steps[:4])  # nothing is counted twice
    played = EpisodeStore(out / "round-2" / "played-1")
    returns = np.array([episode.rewards.sum() for episode in played])
    assert pieces[1].real_return == pytest.approx(returns.mean()) and pieces[1].success == (returns > 0).mean()
    assert len(set(EpisodeStore(out / "round-2" / "data").seeds.tolist())) == 18  # no world twice
    assert json.loads((out / "pieces.json").read_text())[1]["round"] == 2
    assert (out / "round-1" / "holes.png").stat().st_size > 100 and list(out.glob("events.*"))
    tags = set(EventAccumulator(str(out)).Reload().Tags()["scalars"])
    page = (Path(__file__).parents[3] / "docs" / "tensorboard.md").read_text()
    assert {tag for tag in tags if not tag.startswith("result/")} == set(re.findall(r"^\| `(loop/[\w/]+)`", page, re.M))
    assert {f"result/{name}" for name in ("real_return", "success", "real_steps", "minutes", "round")} <= tags
    best = best_of(pieces)
    assert load_policy(out / "agent").checkpoint == str(out / f"round-{best.round}" / "world")
    with pytest.raises(ValueError, match="holds a loop with updates 1, not 7; repeat its command"):
        loop(ENV_ID, out, replace(SMALL, updates=7))
    with pytest.raises(ValueError, match="with dreams.horizon 6, not 7"):
        loop(ENV_ID, out, replace(SMALL, dreams=replace(DREAMS, horizon=7)))
    settings = json.loads((out / "config.json").read_text())
    del settings["dreams"]["doubt_penalty"]  # as a version wrote it that did not know of it
    write_checked(out / "config.json", json.dumps(settings))
    assert loop(ENV_ID, out, SMALL, say=said.append) == pieces


@pytest.mark.slow
def test_rounds_begin_with_what_real_episodes_teach(tmp_path):
    out, said = tmp_path / "loop", []
    taught = replace(SMALL, dreams=replace(DREAMS, offline=OfflineConfig(updates=3), learning_rate=1e-12))
    pieces = loop(ENV_ID, out, taught, say=said.append)
    assert [(p.round, p.piece) for p in pieces] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert [p.dreamt_steps > 0 for p in pieces] == [False, True, True, True]
    assert pieces[0].dreamt_return is None and "piece 0: taught by real episodes" in said[0]
    names = ("explored", "random", "round-1/played-0", "round-1/played-1", "round-2/rare", "round-2/played-0")
    steps = [int(EpisodeStore(out / name).lengths.sum()) for name in names]
    assert [p.real_steps for p in pieces[:3]] == [sum(steps[:3]), sum(steps[:4]), sum(steps)]
    assert len(EpisodeStore(out / "round-2" / "data")) == 12 + 2 + 2 + 2 + 2
    before, after = (load_policy(out / "round-2" / f"agent-{piece}").policy.state_dict() for piece in (0, 1))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before), "dreams went on with another"
    assert json.loads((out / "pieces.json").read_text())[2]["dreamt_return"] is None


@pytest.mark.slow
def test_a_killed_process_goes_on(tmp_path, checkpoint):
    """kill -9 in the midst of a training in dreams; the same command ends like one that nobody killed."""
    model = tmp_path / "model"
    shutil.copytree(checkpoint, model)
    (model / "config.yaml").write_text("steps_of_data: 1000\n")
    words = ["--env", ENV_ID, "--checkpoint", str(model), "--data", f"{checkpoint}/contexts", "--rounds", "1"]
    words += ["--explore-episodes", "0", "--random-episodes", "2", "--play-episodes", "2", "--num-envs", "2"]
    words += ["--updates", "1", "--pieces", "1", "--check-episodes", "1", "--dreams.num-envs", "4"]
    words += ["--dreams.rollout-steps", "8", "--dreams.horizon", "6", "--dreams.total-steps", "64"]
    words += ["--dreams.offline.updates", "0"]
    program = (
        "import os, signal\nfrom lssvwm_agents import imagination\nfrom lssvwm_rl.cli import main\n"
        "def killed(*args, **kwargs):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"imagination.save_policy = killed\nmain(['agent', 'loop', '--out', '{tmp_path}/killed', *{words!r}])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == -9
    assert not (tmp_path / "killed" / "round-1" / "agent-1").exists()
    for name in ("killed", "whole"):
        main(["agent", "loop", "--out", str(tmp_path / name), *words])
    ours, theirs = (load_policy(tmp_path / name / "agent").policy.state_dict() for name in ("killed", "whole"))
    assert all((ours[key] == theirs[key]).all() for key in ours)
    played = EpisodeStore(tmp_path / "whole" / "round-1" / "data").lengths.sum()
    last = json.loads((tmp_path / "whole" / "pieces.json").read_text())[-1]
    assert last["real_steps"] > 1_000 + played


def test_dreams_of_later_pieces_begin_in_what_was_played_since_too(tmp_path, checkpoint, monkeypatch):
    place = Place(tmp_path, EnvSetup(ENV_ID), SMALL)
    contexts = load_contexts(checkpoint)
    episodes, header = [contexts[0].cut(0, frames) for frames in range(2, 7)], contexts.header
    for folder, part in (
        (place.store(1), episodes[:3]),
        (place.played(1, 1), [episodes[3]]),
        (place.played(1, 2), [episodes[4]]),
    ):
        with EpisodeWriter(folder, header) as writer:
            for episode in part:
                writer.add(episode)
    begun = []

    def trained(world, settings, *args):
        begun.append(EpisodeStore(settings.contexts))
        return SimpleNamespace(num_timesteps=0)

    monkeypatch.setattr(phases, "train_in_dream", trained)
    for piece in (1, 2, 3, 3):  # the last one as after a kill
        phases.dream(place, 1, piece, None)
    assert [len(store) for store in begun] == [3, 4, 5, 5]
    assert all((a.frames == b.frames).all() for a, b in zip(begun[-1], episodes, strict=True))


def test_a_round_ends_when_reality_parts_from_the_dream():
    worse = replace(PIECE, piece=2, real_return=0.2, dreamt_return=0.6)
    assert parted([PIECE, worse])
    assert not parted([PIECE]) and not parted([PIECE, replace(worse, real_return=0.3)])  # within two standard errors
    assert not parted([PIECE, replace(worse, dreamt_return=0.3)])  # the dream fell, too
    assert not parted([worse, PIECE])
    taught = replace(PIECE, piece=0, dreamt_return=None)
    assert parted([taught, worse]) and not parted([taught, replace(worse, real_return=0.3)]) and taught.gap is None
    assert best_of([worse, PIECE]) == PIECE and best_of([PIECE, replace(PIECE, piece=3)]).piece == 3
    assert worse.gap == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"explore_episodes": 0}, "give --data STORE"),
        ({"checkpoint": "none"}, "no checkpoint"),
        ({"data": "none"}, "No episode store"),
        ({"rounds": 0}, "at least one round"),
        ({"random_episodes": 1}, "at least 2"),
        ({"dreams": replace(DREAMS, contexts="store")}, "begin in its own data"),
    ],
)
def test_bad_input_leaves_nothing_behind(settings, text, tmp_path):
    other = {name: settings.pop(name) for name in ("checkpoint", "data") if name in settings}
    with pytest.raises((ValueError, FileNotFoundError), match=text):
        loop(ENV_ID, tmp_path / "loop", replace(SMALL, **settings), **other)
    assert not (tmp_path / "loop").exists()
