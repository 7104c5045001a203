"""Texts of a checkpoint whose byte has changed are named; writing them is never seen half done."""

from __future__ import annotations

import json
import os

import pytest

from lssvwm_rl.checked_text import CHECKSUMS, check_texts, remove_checked, write_checked
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.checkpoint_files import ASSETS, CONTEXTS, DOUBT, ENV_FILE, MODEL_CONFIG
from lssvwm_rl.model.doubt import load_scale, write_scale
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.run_folder import export
from support.changed_bytes import one_bit_changed
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
    assert ended == 4, "the old checksum, the text, the new checksum, and that of what is removed"


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
    (checkpoint / CHECKSUMS).unlink()  # as of earlier versions
    export(checkpoint, tmp_path / "out")
    assert set(json.loads((tmp_path / "out" / CHECKSUMS).read_text())) == {MODEL_CONFIG, DOUBT, ENV_FILE}
    assert len(EpisodeStore(tmp_path / "out" / CONTEXTS))
    (tmp_path / "out" / ENV_FILE).write_text("{}")
    with pytest.raises(ValueError, match="env.json has changed"):
        export(tmp_path / "out", tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("folder", sorted(path.parent for path in ASSETS.rglob(MODEL_CONFIG)), ids=lambda p: p.name)
def test_packaged_checkpoints_have_checksums(folder):
    check_texts(folder)
    known = set(json.loads((folder / CHECKSUMS).read_text()))
    assert known == {path.name for path in folder.glob("*.json")} - {CHECKSUMS}
