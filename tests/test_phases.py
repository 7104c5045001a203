"""Work in phases keeps what it found: a text of it that changed or vanished is named before anything goes on."""

from __future__ import annotations

import json
import os
from itertools import count

import pytest

from lssvwm_rl.checked_text import CHECKSUMS
from lssvwm_rl.phases import FOLDER, SETTINGS, claim, find_phase, run_phase
from support.changed_bytes import one_bit_changed

OURS = {"env": "X-v0", "size": {"width": 3}}
FOUND = {"steps": 7, "seconds": 0.5}


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "work"
    claim(folder, OURS, "loop")
    run_phase(folder, "one", lambda: FOUND)
    return folder


def test_what_was_found_is_not_looked_for_again(out):
    claim(out, OURS, "loop")
    assert run_phase(out, "one", lambda: 1 / 0) == FOUND and find_phase(out, "two") is None
    with pytest.raises(ValueError, match=r"holds a loop with size.width 3, not 4; repeat its command"):
        claim(out, {**OURS, "size": {"width": 4}}, "loop")
    claim(out, {**OURS, "size": {"width": 4}}, "loop", may_change=["size.width"])
    assert json.loads((out / SETTINGS).read_text())["size"] == {"width": 4}


@pytest.mark.parametrize("name", [SETTINGS, f"{FOLDER}/one.json"])
def test_every_changed_byte_is_named(out, name):
    for _ in one_bit_changed(out / name, 0, first=1_000):
        with pytest.raises(ValueError, match=rf"{out} holds a loop that is not whole \({name} has changed"):
            claim(out, OURS, "loop")
    claim(out, OURS, "loop")


def test_every_changed_byte_of_the_checksums_is_named_or_harmless(out):
    tried = named = 0
    for _ in one_bit_changed(out / CHECKSUMS, 0, first=1_000):
        tried += 1
        try:
            claim(out, OURS, "loop")
            assert find_phase(out, "one") == FOUND
        except ValueError as error:
            assert str(out) in str(error)
            named += 1
        claims = json.loads((out / SETTINGS).read_text())
        assert claims["env"] == "X-v0" and claims["size"] == {"width": 3}
    assert named > 0.75 * tried


@pytest.mark.parametrize("name", [SETTINGS, CHECKSUMS, f"{FOLDER}/one.json"])
def test_a_deleted_text_is_named(out, name):
    text = (out / name).read_text()
    (out / name).unlink()
    with pytest.raises(ValueError, match=rf"{out} .*(is missing|not empty and not a loop)"):
        claim(out, OURS, "loop")
    (out / name).write_text("{}" if name == CHECKSUMS else "")
    with pytest.raises(ValueError, match=rf"{out} .*(has changed|does not name {SETTINGS})"):
        claim(out, OURS, "loop")
    (out / name).write_text(text)
    claim(out, OURS, "loop")


def test_work_of_an_earlier_version_goes_on(out):
    (out / CHECKSUMS).unlink()
    (out / SETTINGS).write_text(json.dumps(OURS, indent=2))
    claim(out, OURS, "loop")
    assert find_phase(out, "one") == FOUND
    (out / SETTINGS).write_text("[]")
    with pytest.raises(ValueError, match=f"{SETTINGS} has changed"):
        claim(out, OURS, "loop")


def test_wherever_it_is_interrupted_it_goes_on(tmp_path, monkeypatch):
    """Every rename is the last thing that happens, in turn."""
    replace = os.replace
    for last in count():
        out, done = tmp_path / f"work{last}", []

        def or_stop(source, target, done=done, last=last):
            if len(done) == last:
                raise KeyboardInterrupt
            done.append(target)
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", or_stop)
            try:
                claim(out, OURS, "loop")
                run_phase(out, "one", lambda: FOUND)
            except KeyboardInterrupt:
                pass
        claim(out, OURS, "loop")
        assert run_phase(out, "one", lambda: FOUND) == FOUND
        if len(done) < last:
            break
    assert last == 7, "three files each, and then nothing more"
