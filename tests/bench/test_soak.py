"""The soak on small numbers, and that it sees what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from lssvwm_rl.data.store import EpisodeWriter
from soak import kills
from soak.calls import Call
from soak.corruptions import KINDS, Artefact, corrupt, judge, soak_corruptions
from soak.fuzz import play
from soak.kills import Command, soak_kills, store_differences
from soak.outcome import Outcome
from soak.run import Args, main
from support.small_stores import PLAIN, ones


@pytest.mark.slow
def test_a_short_soak_finds_nothing_wrong(tmp_path, capsys):
    assert main(Args(kills=1, stores=1, calls=320, corruptions=36, out=tmp_path / "soak.json")) == 0
    table = (tmp_path / "soak.md").read_text()
    assert table in capsys.readouterr().out and len(table.splitlines()) == 2 + 3 + 1 + 4 + 6
    for row in table.splitlines()[2:]:
        assert row.endswith("| 0 |") and "| 0 |" not in row[:-5]


class Fragile:
    """An environment of one number, which is refused, taken, or changed as a call says."""

    def __init__(self, what: str) -> None:
        self.what, self.number = what, 0

    def snapshot(self) -> int:
        return self.number

    def step(self) -> int:
        if self.what in ("changes and refuses", "grows"):
            self.number += 1
        if self.what == "grows":
            return self.number
        if self.what == "breaks":
            raise KeyError("a")
        raise ResetNeeded("No." if self.what == "is short" else "There is no episode yet; call reset().")

    def draw(self, rng: np.random.Generator) -> Call:
        return Call("step()", self.step, self.what in ("grows", "fits"), lambda n: "is odd" if n == 3 else "")


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("refuses", []),
        ("changes and refuses", ["has changed something"] * 3),
        ("breaks", ["raises KeyError"] * 3),
        ("is short", ["without a sentence"] * 3),
        ("fits", ["is refused"] * 3),
        ("grows", ["is odd"]),
    ],
)
def test_calls_that_are_not_as_they_should_be_are_counted(what, wrong):
    outcome = Outcome("calls")
    play(Fragile(what), 3, np.random.default_rng(0), outcome)
    assert outcome.tried == 3 == sum(outcome.came_to.values()) + len(wrong)
    assert len(outcome.wrong) == len(wrong) and all(map(str.__contains__, outcome.wrong, wrong))


@pytest.fixture
def words(tmp_path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "words").write_bytes(b"abc")
    return tmp_path / "folder" / "words"


def test_files_are_changed_one_at_a_time_and_repaired(words):
    rng, whole = np.random.default_rng(0), words.read_bytes()
    for kind in KINDS:
        corrupt(words, kind, rng)
        assert (words.exists(), words.exists() and len(words.read_bytes()) < 3) == {
            "a bit changed": (True, False), "cut": (True, True), "deleted": (False, False)
        }[kind]  # fmt: skip
        assert not words.exists() or words.read_bytes() != whole
        words.write_bytes(whole)
    (outcome,) = soak_corruptions([Artefact("words", words.parent, lambda: "always")], 20, 0)
    assert words.read_bytes() == whole and outcome.came_to == {"harmless": 20} and not outcome.wrong


@pytest.mark.parametrize(
    ("error", "came_to"),
    [
        (ValueError("words is broken"), "named by file or shard"),
        (ValueError("{folder} is broken"), "named by its folder"),
        (FileNotFoundError("words"), "named by file or shard"),
        (ValueError("something is broken"), ""),
        (KeyError("words"), ""),
    ],
)
def test_only_errors_that_name_the_file_are_right(words, error, came_to):
    def read() -> Any:
        raise type(error)(str(error.args[0]).format(folder=words.parent))

    assert judge(Artefact("words", words.parent, read), words, "cut", None)[0] == came_to


def test_what_is_read_as_something_else_is_wrong(words):
    artefact = Artefact("words", words.parent, lambda: words.exists() and words.read_bytes(), lambda found: not found)
    words.write_bytes(b"abd")
    assert judge(artefact, words, "a bit changed", b"abc") == ("", "is read as something else")
    words.unlink()
    assert judge(artefact, words, "deleted", b"abc") == ("begins anew, as documented", "")
    assert judge(artefact, words, "cut", b"abc") == ("", "is read as something else")


def store_of(folder: Path, seeds: tuple[int, ...]) -> Path:
    with EpisodeWriter(folder, PLAIN) as writer:
        for seed in seeds:
            writer.add(ones(2, seed))
    return folder


def test_seeds_that_were_played_twice_or_never_are_seen(tmp_path):
    whole, same = store_of(tmp_path / "whole", (1, 2)), store_of(tmp_path / "same", (2, 1))
    assert not list(store_differences(same, whole))
    assert list(store_differences(store_of(tmp_path / "twice", (1, 2, 2)), whole))
    (same / "shard-00000.zarr" / "rewards" / "zarr.json").write_text("{}")
    assert "zarr.json" in next(store_differences(same, whole))


@pytest.mark.parametrize(("last", "wrong"), [(0, None), (0, "has other weights"), (3, "ends with 3: no disk")])
def test_a_story_is_counted_and_compared(tmp_path, monkeypatch, last, wrong):
    """Of a command that needs three runs until it ends."""
    runs: list[tuple[str, bool]] = []

    def run_for(command, out, said, seconds):
        runs.append((out.name, seconds is not None))
        out.mkdir(exist_ok=True)
        said.write_text("no disk")
        if out.name == "whole":
            return 0
        (out / "weights").touch()
        tries = sum(name == out.name for name, _ in runs)
        return -9 if seconds is not None and tries < 3 else last

    def differences(found, whole):
        yield from [wrong] if wrong and not last else []

    monkeypatch.setattr(kills, "run_for", run_for)
    outcome = soak_kills(Command("x", [], "the same", differences), 4, 0, tmp_path / "kills")
    assert runs[0] == ("whole", False) and outcome.tried == outcome.came_to["in its work"] == 4
    assert [name for name, _ in runs[1:]] == ["story-0"] * 3 + ["story-1"] * 3
    if wrong is None:
        assert outcome.came_to["repeated to the end: the same"] == 2 and not outcome.wrong
    else:
        assert outcome.wrong == [f"story-0 {wrong}", f"story-1 {wrong}"]
