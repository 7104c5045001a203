"""`lssvwm report`: what is in the page of a run is what is in its files, and nothing leads out of it."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
import math
import shlex
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import tyro
import yaml
from safetensors import safe_open

from lssvwm_agents.commands.collect import Collect
from lssvwm_bench.report import report_path, write_report
from lssvwm_bench.report.commands import recipe
from lssvwm_bench.report.run_sections import store_digest
from lssvwm_bench.report.runs import find_run
from lssvwm_rl.checked_text import write_checked
from lssvwm_rl.cli import main
from lssvwm_rl.commands.train import Train, defaults
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.measures.calibration import calibrate
from lssvwm_rl.model.checkpoints import load_contexts, load_world_model
from lssvwm_rl.training import trainer
from support.cues import cue_episodes
from support.pages import Page
from support.small_models import BACKBONE, DISCRETE, untrained_checkpoint

HOSTILE = '<script>alert("env")</script>'
POLICY = "\"><img src='https://evil.example/x.png' onerror=alert(1)>"
SIZES = "--model.backbone.width 32 --model.backbone.blocks 1 2 --model.feature-size 12 --model.head-width 32"
SIZES += " --model.reservoir.blocks --model.fast-weights.size 0"
SETTINGS = "--batch-size 2 --span 8 --log-every 1 --preview-every 0 --measure-every 2 --device cpu --steps 4"
MEASURED = {"recall", "dreams", "doubt", "holds"}
EVERY = {"learning", "memory_over_updates", *MEASURED, "agent", "costs", "settings", "reproduce"}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A world model of four updates, whose data names what would be code if it were not escaped."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("report")
    header = StoreHeader((16, 16, 3), DISCRETE, env_spec=json.dumps({"id": HOSTILE, "kwargs": {}}), policy=POLICY)
    with EpisodeWriter(folder / "data", header) as writer:
        for episode in cue_episodes(160):
            writer.add(episode)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "gemm_rate", lambda device: 1e9)
        main(f"train --data {folder / 'data'} --out {folder / 'run'} {SIZES} {SETTINGS}".split())
    main(["report", str(folder / "run")])
    return folder / "run"


@pytest.fixture(scope="module")
def page(run) -> Page:
    return Page((run / "report" / "report.html").read_text())


def copied(run: Path, tmp_path: Path, measurable: bool = True) -> Path:
    folder = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("report"))
    for name in () if measurable else ("config.json", "model.safetensors", "doubt.json"):
        (folder / name).unlink()
    return folder


def report_of(folder: Path | str, tmp_path: Path) -> Page:
    return Page(write_report(folder, tmp_path / "page.html").read_text())


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "learning_curve.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_alone(page: Page):
    """Nothing in a page asks for anything else, or runs."""
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "poster", "srcset", "data", "action", "xlink:href"):
                assert value.startswith("#" if tag == "a" else ("data:image/png;", "data:video/mp4;")), (
                    tag,
                    value[:80],
                )
    (style,) = page.texts["style"]
    assert "url(" not in style and "@import" not in style and "prefers-color-scheme: dark" in style
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")


def test_a_page_needs_nothing_else(page):
    assert_alone(page)
    names = {link["href"] for link in page.all("a")}
    assert names == {f"#{name}" for name in page.sections} and set(page.sections) == EVERY


def test_a_hostile_name_is_text(page):
    assert HOSTILE in page.texts["h1"][0] and POLICY in page.sections["reproduce"]
    assert not any("evil" in value for _, attributes in page.tags for value in attributes.values())


def test_a_run_shows_what_it_has(page):
    assert page.empty == {"agent"} and "lssvwm agent train" in page.sections["agent"]


def test_figures_are_those_of_the_files(run, page):
    last, config = rows_of(run)[-1], yaml.safe_load((run / "config.yaml").read_text())
    with safe_open(run / "model.safetensors", "pt") as file:
        numel = {name: math.prod(file.get_slice(name).get_shape()) for name in file.keys()}
    parameters = sum(weight.numel() for weight in load_world_model(run).parameters())
    assert parameters <= sum(numel.values())
    assert f"Parameters {parameters:,} " in page.sections["costs"]
    assert f"Weights on disk {(run / 'model.safetensors').stat().st_size / 1e3:.1f} kB" in page.sections["costs"]
    assert f"{float(last['minutes']):.1f} minutes of 4 updates" in page.sections["costs"]
    store = EpisodeStore(config["data"])
    counts = f"160 episodes, {int(store.lengths.sum()):,} steps"
    assert f"Learnt from {counts}" in page.sections["reproduce"]
    assert store_digest(store.path) in page.sections["reproduce"]
    for name, value in (("train.span", 8), ("model.backbone.blocks", "[1, 2]"), ("data", store.path)):
        assert f"{name} {value} " in page.sections["settings"]
    found = calibrate(load_world_model(run), load_contexts(run))
    text = (
        f"{found.frames:,} held-out frames, each dreamt one step after the real frames before it: {found.psnr:.1f} dB"
    )
    assert text in page.sections["doubt"]


def test_a_curve_has_a_point_for_each_row(run, page):
    rows = rows_of(run)
    shapes = [each["points"].split() for each in page.all("polyline")]
    losses = [name for name in ("total", "frame", "reward", "continuation", "recall") if name in rows[0]]
    assert len(losses) == 5 and [len(points) for points in shapes[:5]] == [len(rows)] * 5
    heights = [float(point.split(",")[1]) for point in shapes[0]]
    totals = [float(row["total"]) for row in rows]
    assert np.argsort(heights).tolist() == np.argsort(totals)[::-1].tolist()  # y goes down
    for name, label in (("dream_psnr", "whole dreams"), ("dream_psnr_one_step", "the first dreamt frame")):
        assert f"{name}_copy" in rows[0] and f"PSNR of {label} (dB)" in page.sections["learning"]
    assert page.sections["learning"].count("copy of the last real frame") == 2
    shown = [each for each in rows[0] if f"{each}_wiped" in rows[0]]
    assert page.sections["memory_over_updates"].count("memory wiped") == len(shown) > 0


def test_dreams_are_videos_that_browsers_play(run, page):
    videos = [video["src"] for video in page.all("video")]
    assert len(videos) == 3
    with av.open(io.BytesIO(base64.b64decode(videos[0].partition(",")[2]))) as container:
        (stream,) = container.streams.video
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.width == 2 * stream.height
        frames = sum(1 for _ in container.decode(stream))
    assert frames == load_contexts(run).lengths.max() + 1


def test_commands_make_the_same_run(run):
    collected = recipe(find_run(str(run))).lines
    assert len(collected) == 1  # no environment of such a name is collected from
    program, command, *words = shlex.split(collected[0])
    assert (program, command) == ("lssvwm", "train")
    parsed = tyro.cli(Train, args=words, default=defaults(words))
    config = yaml.safe_load((run / "config.yaml").read_text())
    for part in ("model", "objective"):
        ours = json.loads(json.dumps(dataclasses.asdict(getattr(parsed, part))))
        assert ours == {name: config[part][name] for name in ours}
    assert json.loads(json.dumps(dataclasses.asdict(parsed.config))) == config["train"]
    assert (str(parsed.data), parsed.out) == (config["data"], run)


def test_the_command_of_the_data_collects_the_same(tmp_path):
    words = f"MiniGrid-MemoryS7-v0 --out {tmp_path / 'data'} --episodes 3 --policy random --seed 5 --split validation"
    words += " --env-kwargs max_steps 9 --resize 16 16 --vector pose"
    main(["collect", *words.split()])
    shutil.copytree(tmp_path / "data", tmp_path / "run" / "contexts")
    (tmp_path / "run" / "config.yaml").write_text(f"data: {tmp_path / 'data'}\nepisodes_of_data: 3\n")
    first = recipe(find_run(str(tmp_path / "run"))).lines[0]
    program, command, *made = shlex.split(first)
    assert (program, command) == ("lssvwm", "collect")
    assert tyro.cli(Collect, args=made) == tyro.cli(Collect, args=words.split())


def test_a_run_without_a_checkpoint_shows_its_curve(run, tmp_path):
    folder = copied(run, tmp_path, measurable=False)
    page = report_of(folder, tmp_path)
    assert page.empty == {"agent", *MEASURED} and "No checkpoint yet" in page.sections["dreams"]
    assert "4 updates" in page.sections["learning"]


def test_a_run_that_has_just_begun_is_a_page_of_sentences(run, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    shutil.copyfile(run / "config.yaml", folder / "config.yaml")
    page = report_of(folder, tmp_path)
    assert page.empty == EVERY - {"settings", "reproduce"}
    assert_alone(page)


@pytest.mark.parametrize(
    ("name", "content", "section", "text"),
    [
        ("model.safetensors", b"nothing", "dreams", "model.safetensors"),
        ("config.json", b"{", "dreams", "config.json"),
        ("doubt.json", b"{", "agent", "A world model alone"),
    ],
)
def test_what_is_broken_is_a_sentence_and_the_rest_is_shown(run, tmp_path, name, content, section, text):
    folder = copied(run, tmp_path, measurable=section == "dreams")
    (folder / name).write_bytes(content)
    page = report_of(folder, tmp_path)
    assert section in page.empty and text in page.sections[section]
    assert "settings" not in page.empty


def test_a_curve_that_is_lost_comes_from_the_events(run, tmp_path):
    folder = copied(run, tmp_path, measurable=False)
    (folder / "learning_curve.csv").unlink()
    found, rows = find_run(str(folder)).curve, rows_of(run)
    assert [row["step"] for row in found] == [float(row["step"]) for row in rows]
    assert [set(row) for row in found] == [set(row) for row in rows]
    for ours, theirs in zip(found, rows, strict=True):
        assert ours["total"] == pytest.approx(float(theirs["total"]), rel=1e-5)
    assert "learning" not in report_of(folder, tmp_path).empty


@pytest.mark.parametrize("content", ["{[", "- 1", ""])
def test_broken_settings_are_named(run, tmp_path, content):
    folder = copied(run, tmp_path, measurable=False)
    (folder / "config.yaml").write_text(content)
    page = report_of(folder, tmp_path)
    assert "settings" in page.empty and "learning" not in page.empty
    assert any("config.yaml" in text for text in page.texts["p"])


def test_an_export_has_what_its_files_say(run, tmp_path):
    main(["export", "--checkpoint", str(run), "--out", str(tmp_path / "export")])
    page = report_of(tmp_path / "export", tmp_path)
    assert page.empty == {"agent"}


@pytest.mark.parametrize("value", ["<b>many</b>", [1], None, {"a": {}}])
def test_settings_that_are_none_cost_their_section_alone(run, tmp_path, value):
    folder = copied(run, tmp_path, measurable=False)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    write_checked(folder / "config.yaml", yaml.safe_dump({**config, "steps_of_data": value, "data": value}))
    page = report_of(folder, tmp_path)
    assert page.empty == {"agent", "reproduce", *MEASURED} and "not expected" in page.sections["reproduce"]
    assert_alone(page)
    assert not page.all("b") or "many" not in page.texts["b"]


@pytest.mark.parametrize("name", ["config.yaml", "learning_curve.csv"])
def test_what_changed_or_vanished_is_named(run, tmp_path, name):
    folder = copied(run, tmp_path)
    text = (folder / name).read_text()
    (folder / name).write_text(text.replace("1", "2", 1))
    assert f"{name} has changed since it was written" in " ".join(sum(report_of(folder, tmp_path).texts.values(), []))
    (folder / name).unlink()
    (found,) = find_run(str(folder)).broken
    assert f"{name} is missing, though it was written" in found
    (folder / name).write_text(text)
    assert not find_run(str(folder)).broken


@pytest.mark.parametrize(("kind", "keys"), [("causal", {}), ("window", {}), ("block_ssm", {"pose": 2})])
def test_models_of_all_kinds_and_short_episodes_have_reports(tmp_path, kind, keys):
    changes = {"backbone": dataclasses.replace(BACKBONE, kind=kind)}
    folder = untrained_checkpoint(tmp_path / "model", keys, **changes)
    page = report_of(folder, tmp_path)
    assert page.empty == {"agent", "learning", "memory_over_updates", "settings"} | (
        {"holds"} if kind != "block_ssm" else set()
    )
    assert ("real actions and vectors" in page.sections["dreams"]) == bool(keys)
    assert "unknown environment" in page.texts["h1"][0]


def test_held_out_episodes_that_are_gone_are_a_sentence(run, tmp_path):
    folder = copied(run, tmp_path)
    shutil.rmtree(folder / "contexts")
    page = report_of(folder, tmp_path)
    assert page.empty == {"agent", *MEASURED} and "has no episodes to start dreams from" in page.sections["recall"]
    assert "Parameters" in page.sections["costs"]


def test_a_report_replaces_the_last_one_and_leaves_the_run_alone(run, tmp_path):
    folder = copied(run, tmp_path)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    paths = [write_report(folder) for _ in range(2)]
    assert set(paths) == {folder / "report" / "report.html"} == {report_path(str(folder))}
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    assert {path: data for path, data in after.items() if path not in paths} == before


def test_the_digest_of_a_store_changes_with_it(tmp_path):
    with EpisodeWriter(tmp_path / "a", StoreHeader((16, 16, 3), DISCRETE)) as writer:
        writer.add(cue_episodes(1)[0])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    first = store_digest(tmp_path / "a")
    assert first == store_digest(tmp_path / "b")
    with EpisodeWriter(tmp_path / "b", StoreHeader((16, 16, 3), DISCRETE)) as writer:
        writer.add(cue_episodes(1)[0])
    assert store_digest(tmp_path / "b") != first
