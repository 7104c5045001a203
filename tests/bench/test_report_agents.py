"""`lssvwm report` of agents: loops, baselines, policies; and what is no run."""

from __future__ import annotations

import csv
import dataclasses
import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import tyro

from lssvwm_agents.baselines import BaselineConfig, train_baseline
from lssvwm_agents.commands.agent import AgentTrain
from lssvwm_agents.commands.baseline import AgentBaseline
from lssvwm_agents.commands.loop import AgentLoop
from lssvwm_agents.loop import LoopConfig
from lssvwm_bench.report import report_path, write_report
from lssvwm_bench.report.commands import recipe
from lssvwm_bench.report.runs import find_run
from lssvwm_rl.checked_text import write_checked
from lssvwm_rl.cli import main
from lssvwm_rl.model.checkpoint_files import ASSETS
from lssvwm_rl.phases import claim, run_phase
from lssvwm_rl.training.curve import read_curve
from support.pages import Page

ENV_ID = "MiniGrid-MemoryS7-v0"
CHECK = {"episodes": 7, "wrong": 0.0123, "false_payments": 0.5, "false_ends": 0.25, "seconds": 6.0}


def report_of(folder: Path | str, tmp_path: Path) -> Page:
    return Page(write_report(folder, tmp_path / "page.html").read_text())


@pytest.fixture(scope="module")
def baseline(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("baseline") / "run"
    train_baseline(BaselineConfig(env=ENV_ID, total_steps=600, num_envs=2, rollout_steps=300, batch_size=100), out)
    return out


def test_a_baseline_shows_its_curve_and_costs(baseline, tmp_path):
    page = report_of(baseline, tmp_path)
    with (baseline / "learning_curve.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert page.empty == {"learning", "memory_over_updates", "recall", "dreams", "doubt", "holds"}
    assert f"600 real steps in {float(last['seconds']) / 60:.1f} minutes" in page.sections["agent"]
    assert f"{600 / float(last['seconds']):,.0f} per second" in page.sections["costs"]
    assert "Real steps 600 Dreamt steps 0" in page.sections["agent"]
    assert ENV_ID in page.texts["h1"][0]


def test_a_baseline_that_has_just_begun_says_so(baseline, tmp_path):
    (tmp_path / "new").mkdir()
    shutil.copyfile(baseline / "baseline.json", tmp_path / "new" / "baseline.json")
    page = report_of(tmp_path / "new", tmp_path)
    assert "agent" in page.empty and "No rollout is finished yet" in page.sections["agent"]


def test_the_command_of_a_baseline_makes_the_same(baseline):
    (line,) = recipe(find_run(str(baseline))).lines
    program, *words = shlex.split(line)
    assert (program, *words[:2]) == ("lssvwm", "agent", "baseline")
    parsed = tyro.cli(AgentBaseline, args=words[2:])
    settings = json.loads((baseline / "baseline.json").read_text())
    assert json.loads(json.dumps(dataclasses.asdict(parsed.config))) == settings and parsed.out == baseline


def test_a_policy_says_what_it_took(tmp_path):
    page = report_of(ASSETS / "minigrid-loop" / "agent", tmp_path)
    about = json.loads((ASSETS / "minigrid-loop" / "agent" / "policy.json").read_text())
    assert f"Real steps {about['real_steps']:,}" in page.sections["agent"]
    assert f"Dreamt steps {about['dreamt_steps']:,}" in page.sections["agent"]
    assert "lssvwm agent train --checkpoint" in page.sections["reproduce"]
    assert {"dreams", "learning"} <= page.empty


@pytest.fixture(scope="module")
def dreamer(tmp_path_factory) -> tuple[Path, list[str]]:
    """An agent of `agent train` with real rows, and the words that made it."""
    folder = tmp_path_factory.mktemp("dreamer")
    words = ["--checkpoint", "minigrid-memory", "--out", str(folder / "agent"), "--env", ENV_ID, "--total-steps", "60"]
    words += ["--num-envs", "4", "--rollout-steps", "5", "--batch-size", "10", "--epochs", "1", "--hidden", "8"]
    words += ["--denoise-steps", "1", "--horizon", "4", "--real-share", "0.5", "--max-episode-steps", "3"]
    main(["agent", "train", *words, "--offline.updates", "2"])
    return folder / "agent", words


def test_an_agent_in_dreams_shows_its_curves_and_settings(dreamer, tmp_path):
    page = report_of(dreamer[0], tmp_path)
    curve = read_curve(dreamer[0])
    assert [row["step"] for row in curve] == [20, 40, 60]
    last = curve[-1]
    said = f"60 steps; dreamt return {last['dreamt_return']:.3f}; real return {last['real_return']:.3f}."
    assert said in page.sections["agent"] and "Value loss" in page.sections["agent"]
    assert "real_share 0.5" in page.sections["settings"] and "offline.updates 2" in page.sections["settings"]
    assert ENV_ID in page.texts["h1"][0] and "settings" not in page.empty
    minutes = json.loads((dreamer[0] / "policy.json").read_text())["seconds"] / 60
    assert f"{minutes:.1f} minutes, without those of the world model" in page.sections["costs"]


def test_the_command_of_an_agent_in_dreams_makes_the_same(dreamer):
    made = recipe(find_run(str(dreamer[0])))
    program, *words = shlex.split(made.lines[0])
    assert (program, *words[:2]) == ("lssvwm", "agent", "train") and not made.unnamed
    ours = tyro.cli(AgentTrain, args=words[2:])
    theirs = tyro.cli(AgentTrain, args=[*dreamer[1], "--offline.updates", "2"])
    # The length of real episodes is an argument like others once it is known.
    assert dataclasses.replace(ours, env_kwargs={}) == dataclasses.replace(theirs, max_episode_steps=None)
    assert ours.env_kwargs["max_episode_steps"] == "3"


def test_an_agent_that_went_on_with_another_names_it(dreamer, tmp_path):
    shutil.copytree(dreamer[0], tmp_path / "next")
    settings = json.loads((tmp_path / "next/training.json").read_text())
    write_checked(tmp_path / "next/training.json", json.dumps({**settings, "begun_with": "loop/agents/3"}))
    assert "went on with the policy loop/agents/3" in report_of(tmp_path / "next", tmp_path).sections["reproduce"]


@pytest.fixture
def loop(tmp_path) -> tuple[Path, LoopConfig]:
    """A folder as loops leave it, without a world model."""
    config = LoopConfig(rounds=2, env_kwargs={"size": "7"}, resize=(32, 32), num_envs=4)
    out = tmp_path / "loop"
    claim(out, {"env": ENV_ID, "checkpoint": None, "data": "a b", **dataclasses.asdict(config)}, "loop")
    run_phase(out, "round-1-check", lambda: CHECK)
    shutil.copyfile(ASSETS / "minigrid-loop" / "pieces.json", out / "pieces.json")
    return out, config


def test_a_loop_shows_its_pieces(loop, tmp_path):
    page = report_of(loop[0], tmp_path)
    pieces = json.loads((loop[0] / "pieces.json").read_text())
    for piece in pieces:
        row = f"{piece['round']}.{piece['piece']} {piece['dreamt_return']:.3f} {piece['real_return']:.3f} ± "
        row += f"{piece['real_error']:.3f} {piece['success']:.2f} {piece['real_steps']:,} {piece['minutes']:.1f}"
        assert row in page.sections["agent"]
    best = max(pieces, key=lambda piece: piece["real_return"])
    assert f"Best: round {best['round']}, piece {best['piece']}" in page.sections["agent"]
    assert "1 0.0123 0.5000 0.2500 7" in page.sections["agent"]
    assert "All phases 0.1 minutes" in page.sections["costs"]
    assert "No round has a world model yet" in page.sections["dreams"]


def test_the_command_of_a_loop_makes_the_same(loop):
    made = recipe(find_run(str(loop[0])))
    program, *words = shlex.split(made.lines[0])
    assert (program, *words[:2]) == ("lssvwm", "agent", "loop") and not made.unnamed
    parsed = tyro.cli(AgentLoop, args=words[2:])
    assert parsed == AgentLoop(env=ENV_ID, out=loop[0], data=Path("a b"), config=loop[1])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("config.json", "config.json has changed"),
        ("phases/round-1-check.json", "phases/round-1-check.json has changed"),
        ("checksums.json", "checksums.json has changed"),
    ],
)
def test_what_changed_or_vanished_of_a_loop_is_named(loop, tmp_path, name, said):
    out = loop[0]
    assert not find_run(str(out)).broken
    text = (out / name).read_text()
    (out / name).write_text(text[:-3])
    assert any(said in each for each in find_run(str(out)).broken)
    assert said in " ".join(sum(report_of(out, tmp_path).texts.values(), []))
    if name != "config.json":  # without it, it is no loop
        (out / name).unlink()
        assert any(f"{name} is missing, though it was written" in each for each in find_run(str(out)).broken)


def test_settings_that_a_run_does_not_name_are_said(loop, tmp_path):
    settings = json.loads((loop[0] / "config.json").read_text())
    del settings["rare_episodes"]
    write_checked(loop[0] / "config.json", json.dumps(settings))
    assert "does not name: rare_episodes." in report_of(loop[0], tmp_path).sections["reproduce"]


@pytest.mark.parametrize("content", ["[1]", '[{"round": 1}]', "{", "3"])
def test_pieces_that_are_none_are_left_out(loop, tmp_path, content):
    (loop[0] / "pieces.json").write_text(content)
    page = report_of(loop[0], tmp_path)
    assert "agent" not in page.empty and any("pieces.json" in text for text in page.texts["p"])  # the checks are there


def test_a_packaged_model_has_a_report_beside_other_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert report_path("minigrid-loop") == Path("runs/minigrid-loop-report/report.html")
    run = find_run("minigrid-loop")
    assert run.folder == ASSETS / "minigrid-loop" and len(run.pieces) == len(
        json.loads((run.folder / "pieces.json").read_text())
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["{tmp}/none"], "There is no run '{tmp}/none'; give a folder made by `lssvwm train`."),
        (["{tmp}"], "{tmp} is no run; give a folder made by `lssvwm train`"),
        (["{tmp}/file"], "{tmp}/file is a file; give the folder of a run."),
        (["{assets}/minigrid-loop/agent", "--out", "{tmp}/r.txt"], "a name that ends in .html, not '{tmp}/r.txt'"),
    ],
)
def test_what_is_no_run_is_one_sentence(words, text, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        main(["report", *(word.format(tmp=tmp_path, assets=ASSETS) for word in words)])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and text.format(tmp=tmp_path) in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
