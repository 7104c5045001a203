"""Texts of a checkpoint whose byte has changed are named; writing them is never seen half done."""

from __future__ import annotations

import json
import os

import pytest

from lssvwm_rl.checked_text import CHECKSUMS, check_texts, note_growth, read_checked, remove_checked, write_checked
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.checkpoint_files import ASSETS, CONTEXTS, DOUBT, ENV_FILE, MODEL_CONFIG, WEIGHTS
from lssvwm_rl.model.doubt import load_scale, write_scale
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.curve import CURVE_FILE
from lssvwm_rl.training.run_folder import export
from support.changed_bytes import one_bit_changed
from support.earlier import as_earlier_versions
from support.small_models import untrained_checkpoint


def test_what_was_written_is_known_and_what_changed_is_named(tmp_path):
    write_checked(tmp_path / "a.json", "[1]\n")
    write_checked(tmp_path / "b.json", "2")
    (tmp_path / "other.json").write_text("not ours")
    check_texts(tmp_path)
    (tmp_path / "a.json").write_bytes(b"[1]\r\n")
    check_texts(tmp_path)
    (tmp_path / "b.json").write_text("3")
    with pytest.raises(ValueError, match="b.json has changed since it was written"):
        check_texts(tmp_path)
    write_checked(tmp_path / "b.json", "3")
    remove_checked(tmp_path / "a.json")
    check_texts(tmp_path)
    assert list(json.loads((tmp_path / CHECKSUMS).read_text())) == ["b.json"]
    (tmp_path / "b.json").unlink()
    with pytest.raises(ValueError, match="b.json is missing, though it was written"):
        check_texts(tmp_path)
    remove_checked(tmp_path / "b.json")
    check_texts(tmp_path)


def test_wherever_writing_ends_no_checksum_is_wrong(tmp_path, monkeypatch):
    """Every rename is the last thing that happens, in turn."""
    path, replace, ended = tmp_path / "a.json", os.replace, 0
    for last in range(9):
        write_checked(path, "old")
        done: list[str] = []

        def or_stop(source, target, done=done, last=last):
            if len(done) == last:
                raise OSError("stopped")
            done.append(target)
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", or_stop)
            try:
                write_checked(path, f"new {last}")
                remove_checked(path)
            except OSError:
                ended += 1
        check_texts(tmp_path)
        if len(done) < last:
            break
    assert ended == 4, "both checksums, the text, the new checksum, and that of what is removed"


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "run"
    untrained_checkpoint(folder)
    write_checked(folder / ENV_FILE, json.dumps({"id": "X-v0", "kwargs": {"max_steps": 7}}))
    write_scale(folder, WorldModel.from_pretrained(folder))
    return folder


@pytest.mark.parametrize("name", [MODEL_CONFIG, DOUBT, ENV_FILE, CHECKSUMS])
def test_a_changed_byte_is_named_or_harmless(checkpoint, name):
    model = WorldModel.from_pretrained(checkpoint)
    scale, size = load_scale(checkpoint, model), (checkpoint / name).stat().st_size
    tried = refused = 0
    for at in one_bit_changed(checkpoint / name, 0, first=size, every=max(1, size // 60)):
        tried += 1
        try:
            found = WorldModel.from_pretrained(checkpoint)
            quantiles = load_scale(checkpoint, found).quantiles
            assert found.config == model.config and quantiles.equal(scale.quantiles) and name == CHECKSUMS, at
        except ValueError as error:
            assert name in str(error) or name == CHECKSUMS, at
            assert CHECKSUMS in str(error) and str(checkpoint) in str(error), at
            refused += 1
    assert refused == tried if name != CHECKSUMS else refused > 0.6 * tried


@pytest.mark.parametrize("text", [None, "", "{}\n"])
def test_a_checkpoint_whose_checksums_are_gone_is_named(checkpoint, tmp_path, text):
    (checkpoint / CHECKSUMS).unlink() if text is None else (checkpoint / CHECKSUMS).write_text(text)
    for read in (WorldModel.from_pretrained, lambda folder: export(folder, tmp_path / "out")):
        with pytest.raises(ValueError, match=f"{checkpoint} .*{CHECKSUMS} (is missing|has changed|does not name)"):
            read(checkpoint)
    assert not (tmp_path / "out").exists()
    (checkpoint / CHECKSUMS).touch()
    as_earlier_versions(checkpoint, WEIGHTS)
    WorldModel.from_pretrained(checkpoint)


def test_a_text_that_grows_is_compared_as_far_as_it_was_noted(tmp_path):
    path = tmp_path / "a.csv"
    write_checked(path, "a\r\n1\r\n", grows=True)
    assert read_checked(path) == "a\n1\n"
    with path.open("a", newline="") as file:
        file.write("2\r\n")
    assert read_checked(path) == "a\n1\n2\n"
    for changed in ("a\n1", "a\n3\n2\n", "", "b\n1\n2\n"):
        path.write_text(changed)
        with pytest.raises(ValueError, match=r"a.csv has changed since it was written.*put it back"):
            read_checked(path)
    path.write_text("a\n1\n2\n")
    note_growth(path)
    path.write_text("a\n1\n")
    with pytest.raises(ValueError, match="a.csv has changed"):
        read_checked(path)
    path.unlink()
    with pytest.raises(ValueError, match="a.csv is missing, though it was written"):
        read_checked(path)
    check_texts(tmp_path)  # numbers do not come from tables
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="a.csv has changed"):
        read_checked(path)
    with pytest.raises(FileNotFoundError):
        read_checked(tmp_path / "never.csv")


def test_texts_of_folders_below_are_known_and_none_outside(tmp_path):
    folder = tmp_path / "folder"
    write_checked(folder / "below" / "a.json", "1", folder)
    assert read_checked(folder / "below" / "a.json", folder) == "1" and not (folder / "below" / CHECKSUMS).exists()
    (folder / "below" / "a.json").write_text("2")
    with pytest.raises(ValueError, match=r"below/a.json has changed"):
        check_texts(folder)
    (folder / CHECKSUMS).write_text(json.dumps({"../a.json": "0", str(tmp_path / "b"): "0", "..\\c": "0"}))
    check_texts(folder)


def test_a_deleted_text_is_named(checkpoint):
    """Without env.json, for one, its world would be made with other settings."""
    for name in (MODEL_CONFIG, DOUBT, ENV_FILE):
        text = (checkpoint / name).read_text()
        (checkpoint / name).unlink()
        with pytest.raises((ValueError, FileNotFoundError), match=f"{name} is missing"):
            WorldModel.from_pretrained(checkpoint)
        (checkpoint / name).write_text(text)
    WorldModel.from_pretrained(checkpoint)


def test_exports_have_checksums_and_are_not_made_of_what_has_changed(checkpoint, tmp_path):
    as_earlier_versions(checkpoint, WEIGHTS)
    export(checkpoint, tmp_path / "out")
    assert set(json.loads((tmp_path / "out" / CHECKSUMS).read_text())) == {
        MODEL_CONFIG,
        DOUBT,
        ENV_FILE,
    }
    assert len(EpisodeStore(tmp_path / "out" / CONTEXTS))
    (tmp_path / "out" / ENV_FILE).write_text("{}")
    with pytest.raises(ValueError, match="env.json has changed"):
        export(tmp_path / "out", tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("folder", sorted(path.parent for path in ASSETS.rglob(MODEL_CONFIG)), ids=lambda p: p.name)
def test_packaged_checkpoints_have_checksums(folder):
    check_texts(folder)
    known = set(json.loads((folder / CHECKSUMS).read_text()))
    texts = {path.name for kind in ("*.json", "*.yaml") for path in folder.glob(kind)} | {CURVE_FILE}
    assert known == texts - {CHECKSUMS}
    read_checked(folder / CURVE_FILE)
