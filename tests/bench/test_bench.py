"""A bench is a dataclass with a name: the command line reads its settings, runs it and leaves all files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from lssvwm_bench.bench import BENCHES, Findings, bench, bench_summaries, find_bench
from lssvwm_bench.figures import markdown_table, new_figure, side_by_side
from lssvwm_rl.cli import main

RENAMED = {"--steps": "--length", "--rule": "coins are fair."}


@dataclass(frozen=True)
class Coin:
    """What is thrown."""

    heads: float = 0.5
    """How often it shows heads."""

    def __post_init__(self) -> None:
        if not 0 <= self.heads <= 1:
            raise ValueError(f"A coin shows heads with a probability, not {self.heads}; choose 0 to 1.")


@pytest.fixture(autouse=True)
def toss():
    """A bench that only this file knows."""

    @bench("toss")
    @dataclass(frozen=True)
    class Toss:
        """Throw a coin for long.

        And count.
        """

        length: int
        """Throws."""
        names: tuple[str, ...] = ("heads", "tails")
        """Of the sides."""
        save_to: Path = Path("nowhere")
        """A path is a setting like others."""
        coin: Coin = field(default_factory=Coin)
        """How it is made."""

        def run(self, say) -> Findings:
            say(f"throwing {self.length} times")
            if self.length == 13:
                raise ValueError("13 throws are unlucky; throw more.")
            shown = int((np.random.default_rng(0).random(self.length) < self.coin.heads).sum())
            figure, (axes,) = new_figure(1)
            axes.bar(self.names, [shown, self.length - shown])
            video, strip = np.zeros((3, 16, 16, 3), np.uint8), np.full((4, 6, 3), 200, np.uint8)
            table = markdown_table(self.names, [[str(shown), str(self.length - shown)]])
            return Findings({"heads": shown}, table, figure, video, {"strip": strip}, {"seed": 0})

    yield Toss
    del BENCHES["toss"]


def test_a_new_bench_runs_and_leaves_all_files(tmp_path, capsys):
    out = tmp_path / "new" / "toss"
    main(["bench", "toss", "--length", "40", "--coin.heads", "1", "--out", str(out)])
    assert sorted(p.name for p in out.iterdir()) == ["toss-strip.png", "toss.json", "toss.md", "toss.mp4", "toss.png"]
    written = json.loads((out / "toss.json").read_text())
    assert set(written) == {"settings", "machine", "results"} and set(written["machine"]) == {
        "platform",
        "threads",
        "torch",
    }
    assert written["results"] == {"heads": 40}
    assert written["settings"] == {
        "length": 40,
        "names": ["heads", "tails"],
        "save_to": "nowhere",
        "coin": {"heads": 1.0},
        "seed": 0,
        "out": str(out),
    }
    assert (out / "toss.md").read_text() == "| heads | tails |\n| --- | --- |\n| 40 | 0 |\n"
    assert iio.imread(out / "toss-strip.png").shape == (4, 6, 3) and (out / "toss.mp4").stat().st_size > 500
    said = capsys.readouterr().out
    assert "throwing 40 times" in said and "| 40 | 0 |" in said and str(out) in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--length", "13"], "13 throws are unlucky"),
        (["--length", "4", "--coin.heads", "2"], "not 2.0; choose 0 to 1"),
        (["--steps", "4"], "`--steps` is now `--length`"),
        (["--length", "4", "--rule=fair"], "`--rule` is gone: coins are fair."),
        (["--length", "4"], "exists already"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(words, said, tmp_path, capsys):
    out = tmp_path / "out"
    if said == "exists already":
        out.mkdir()
    with pytest.raises(SystemExit) as stop:
        main(["bench", "toss", *words, "--out", str(out)])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and said in error and error.count("\n") == 1 and "lssvwm bench toss: " in error
    assert not out.exists() or not list(out.iterdir())


def test_benches_are_listed_and_found_by_name(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bench"])
    assert stop.value.code == 0
    listing = capsys.readouterr().out
    for name, line in bench_summaries().items():
        assert f"{name} " in listing and line in listing and line.endswith(".")
    assert {"retrieval", "reasoning", "long", "probe", "paired", "cost", "agent", "toss"} == set(bench_summaries())
    assert "Throw a coin for long." in listing and "And count" not in listing
    with pytest.raises(SystemExit) as stop:
        main(["bench", "fly"])
    assert stop.value.code == 2 and "no bench 'fly'" in capsys.readouterr().err
    with pytest.raises(KeyError):
        find_bench("fly")


@pytest.mark.parametrize("name", ["retrieval", "reasoning", "long", "probe", "paired", "cost", "agent", "toss"])
def test_the_help_of_a_bench_shows_its_settings(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bench", name, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "--out" in text and f"lssvwm bench {name}" in text
    assert ("--cem.horizon" in text) == (name == "agent")


def test_a_name_is_given_once(toss):
    assert bench("toss")(toss) is toss
    with pytest.raises(ValueError, match="a bench 'toss' already"):
        bench("toss")(Coin)


def test_pictures_stand_side_by_side():
    joined = side_by_side([np.zeros((2, 3), np.uint8)] * 2, axis=1, gap=2)
    assert joined.tolist() == [[0, 0, 0, 255, 255, 0, 0, 0]] * 2
