"""Texts of a run that nothing is computed from twice: a changed byte or a deleted file is named by who reads it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from lssvwm_rl.checked_text import CHECKSUMS
from lssvwm_rl.cli import main
from lssvwm_rl.data.episode import Episode, StoreHeader
from lssvwm_rl.data.store import EpisodeWriter
from lssvwm_rl.model.checkpoint_files import WEIGHTS
from lssvwm_rl.training import trainer
from lssvwm_rl.training.curve import CURVE_FILE, read_curve
from lssvwm_rl.training.run_folder import CONFIG_FILE, export, steps_of_data
from support.changed_bytes import one_bit_changed
from support.earlier import as_earlier_versions
from support.small_models import DISCRETE

WORDS = "--model.backbone.width 32 --model.backbone.blocks 1 --model.feature-size 12 --model.head-width 32 "
WORDS += "--batch-size 2 --span 8 --log-every 1 --preview-every 0 --measure-every 0 --device cpu --steps 3"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("changed")
    rng = np.random.default_rng(0)
    with EpisodeWriter(folder / "data", StoreHeader((16, 16, 3), DISCRETE)) as writer:
        for length in (4, 9, 6, 5):
            frames = rng.integers(0, 256, (length + 1, 16, 16, 3), np.uint8)
            writer.add(Episode(frames, rng.integers(0, 4, length), rng.random(length, np.float32), True, False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "gemm_rate", lambda device: 1e9)
        train(folder)
    return folder


def train(folder) -> None:
    main(f"train --data {folder / 'data'} --out {folder / 'run'} {WORDS}".split())


def refused(capsys, call) -> str:
    with pytest.raises(SystemExit) as stop:
        call()
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "Traceback" not in said and len(said.strip().splitlines()) == 1
    return said


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """Of the same names as in its settings, so that the same command goes on with it."""
    monkeypatch.setattr(trainer, "gemm_rate", lambda device: 1e9)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "run", tmp_path / "whole")
    yield trained / "run"
    shutil.rmtree(trained / "run")
    shutil.copytree(tmp_path / "whole", trained / "run")


def test_every_changed_byte_of_the_settings_is_named(run):
    steps = steps_of_data(run)
    for _ in one_bit_changed(run / CONFIG_FILE, 0, first=10_000, every=7):
        with pytest.raises(ValueError, match=f"{CONFIG_FILE} has changed since it was written") as found:
            steps_of_data(run)
        assert str(run) in str(found.value)
    assert steps_of_data(run) == steps


def test_every_changed_byte_of_the_curve_is_named_or_harmless(run):
    """A line ends alike with either of two ends."""
    rows, tried, named = read_curve(run), 0, 0
    for _ in one_bit_changed(run / CURVE_FILE, 0, first=10_000):
        tried += 1
        try:
            assert repr(read_curve(run)) == repr(rows)
        except ValueError as error:
            assert f"{CURVE_FILE} has changed since it was written" in str(error) and str(run) in str(error)
            named += 1
    assert len(rows) == 3 and named > 0.95 * tried


@pytest.mark.parametrize("name", [CONFIG_FILE, CHECKSUMS, "config.json"])
def test_a_run_goes_on_with_nothing_that_is_deleted_or_changed(trained, run, capsys, name):
    text = (run / name).read_text()
    (run / name).unlink()
    assert name in refused(capsys, lambda: train(trained))
    (run / name).write_text("")
    assert name in refused(capsys, lambda: train(trained))
    (run / name).write_text(text)
    train(trained)


def test_a_curve_that_is_lost_is_warned_of_and_one_that_changed_is_named(trained, run, capsys):
    whole = (run / CURVE_FILE).read_bytes()
    (run / CURVE_FILE).write_bytes(whole[: len(whole) // 2])
    assert f"{CURVE_FILE} has changed" in refused(capsys, lambda: train(trained))
    (run / CURVE_FILE).unlink()
    with pytest.raises(ValueError, match=f"{CURVE_FILE} is missing, though it was written"):
        read_curve(run)
    with pytest.warns(RuntimeWarning, match=f"{CURVE_FILE} is missing, though it was written; it begins anew"):
        train(trained)
    assert read_curve(run) == []


def test_an_export_knows_all_that_it_has(run, tmp_path):
    export(run, tmp_path / "out")
    assert set(json.loads((tmp_path / "out" / CHECKSUMS).read_text())) >= {CONFIG_FILE, CURVE_FILE}
    assert read_curve(tmp_path / "out") == read_curve(run) and steps_of_data(tmp_path / "out") == steps_of_data(run)
    (run / CURVE_FILE).write_text("step\n1\n")
    with pytest.raises(ValueError, match=f"cannot be exported.*{CURVE_FILE} has changed"):
        export(run, tmp_path / "again")


def test_a_run_of_an_earlier_version_goes_on_and_is_known_from_then_on(trained, run):
    as_earlier_versions(run, WEIGHTS)
    (run / CONFIG_FILE).write_text((run / CONFIG_FILE).read_text() + "\n")  # nobody knows what it was
    train(trained)
    assert set(json.loads((run / CHECKSUMS).read_text())) >= {CONFIG_FILE, CURVE_FILE}
