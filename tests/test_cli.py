"""The command line: bad input is one sentence and exit code 2; help is quick."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from types import ModuleType

import pytest
import tyro

from lssvwm_rl.cli import COMMANDS, main, run
from lssvwm_rl.command import Command
from lssvwm_rl.model.checkpoints import load_contexts
from support.small_checkpoints import save_checkpoint

AGENT = ["bench", "agent", "--out", "{tmp}/agent"]
BAD = [
    (["fly"], "no command 'fly'"),
    (["collect", "NoSuchEnv-v0", "--out", "{tmp}/s"], "NoSuchEnv"),
    (["collect", "CartPole-v1", "--out", "{tmp}/s"], "holds no image"),
    (["collect", "MiniGrid-MemoryS7-v0", "--out", "{tmp}/s", "--policy", "{tmp}/none"], "No policy at"),
    (["train", "--data", "{tmp}/none", "--out", "{tmp}/run"], "No episode store"),
    (
        ["train", "--data", "{checkpoint}/contexts", "--out", "{tmp}/run", "--model.backbone.backend", "mamba"],
        "use a CUDA",
    ),
    (["train", "--data", "{checkpoint}/contexts", "--out", "{tmp}/run", "--stream", "--curriculum", "9", "9"], "leave"),
    (["train", "--objective", "prefix"], "`--objective` is now `--objective.name`."),
    (["train", "--shortcut"], "`--shortcut` is now `--model.shortcut`."),
    (["train", "--backend=torch"], "`--backend` is now `--model.backbone.backend`."),
    (
        ["train", "--data", "{checkpoint}/contexts", "--out", "{tmp}/run", "--preset", "huge"],
        "tiny, small, base, paper",
    ),
    (["train", "--data", "{checkpoint}/contexts", "--out", "{tmp}/run", "--kind", "mamba"], "one of block_ssm, "),
    (
        ["train", "--data", "{checkpoint}/contexts", "--out", "{tmp}/run", "--objective.name", "both"],
        "one of two_stream",
    ),
    (["train", "--data", "{checkpoint}/contexts", "--out", "{tmp}/run", "--model.grid", "3", "3"], "does not divide"),
    (["bench", "cost", "--contexts", "150", "--out", "{tmp}/cost"], "multiples of 100"),
    (["dream", "--checkpoint", "{tmp}/none"], "no checkpoint"),
    (["export", "--checkpoint", "{checkpoint}", "--out", "{tmp}/o", "--batch-size", "2"], "add --format onnx"),
    (["export", "--checkpoint", "{tmp}/none", "--out", "{tmp}/o", "--format", "onnx"], "no checkpoint"),
    (["export", "--checkpoint", "{checkpoint}", "--out", "{checkpoint}", "--format", "onnx"], "exists already"),
    (
        ["export", "--checkpoint", "{checkpoint}", "--out", "{checkpoint}/config.json/o", "--format", "onnx"],
        "File exists ({checkpoint}/config.json); choose another folder.",
    ),
    (["export", "--checkpoint", "{checkpoint}", "--out", "s3://bucket/o"], "s3://bucket/o is a URL"),
    (["dream", "--checkpoint", "{checkpoint}", "--out", "{checkpoint}/model.safetensors"], "exists already"),
    (["report", "{tmp}"], "is no run; give a folder made by `lssvwm train`"),
    (["report", "{checkpoint}/contexts"], "contexts is no run; give a folder made by `lssvwm train`"),
    (["report", "{checkpoint}", "--out", "{checkpoint}"], "ends in .html"),
    (["hub", "pull", "maze", "--out", "{tmp}/m"], "'maze' names no model of the hub"),
    (["hub", "push", "{checkpoint}", "maze", "--dry-run", "{tmp}/m"], "'maze' names no model of the hub"),
    (["hub", "push", "{tmp}/none", "me/maze", "--dry-run", "{tmp}/m"], "no checkpoint"),
    ([*AGENT, "--planner", "{tmp}/none", "--env", "MiniGrid-MemoryS7-v0"], "no checkpoint"),
    ([*AGENT, "--planner", "{checkpoint}", "--env", "MiniGrid-DoesNotExist-v0"], "DoesNotExist"),
    ([*AGENT, "--policy", "{tmp}/none", "--env", "MiniGrid-MemoryS7-v0"], "No policy at"),
    (["plan", "--checkpoint", "{checkpoint}"], "`plan` is now `lssvwm bench agent --planner CHECKPOINT`."),
    (["agent", "eval", "--policy", "{tmp}/none"], "`agent eval` is now `lssvwm bench agent --policy FOLDER`."),
    (["import", "npz", "{tmp}/none"], "`import npz` is now `lssvwm data import SOURCE --format npz`."),
    (["data", "import", "{tmp}/none", "--out", "{tmp}/s"], "There is nothing at"),
    (["data", "export", "{tmp}/none", "--id", "a-v0"], "No episode store"),
    (["data", "inspect", "{tmp}/none"], "No episode store"),
    (["data", "preview", "{tmp}/none", "--out", "{tmp}/p"], "No episode store"),
    (["data", "split", "{tmp}/none", "--out-train", "{tmp}/a", "--out-test", "{tmp}/b"], "No episode store"),
    (["agent", "train", "--checkpoint", "{tmp}/none", "--out", "{tmp}/agent"], "no checkpoint"),
    (["agent", "train", "--checkpoint", "{checkpoint}", "--out", "{tmp}/agent", "--num-envs", "0"], "at least 1"),
    (["agent", "train", "--checkpoint", "{checkpoint}", "--out", "{checkpoint}"], "exists already"),
    (
        ["agent", "train", "--checkpoint", "{checkpoint}", "--out", "{tmp}/agent", "--temperature", "-1"],
        "A temperature of -1.0",
    ),
    (["quickstart", "--checkpoint", "{tmp}/none", "--out", "{tmp}/q"], "no checkpoint"),
]


@pytest.mark.parametrize(("words", "text"), BAD, ids=lambda v: v if isinstance(v, str) else " ".join(v[:2]))
def test_bad_input_is_one_sentence(words, text, tmp_path, checkpoint, capsys):
    with pytest.raises(SystemExit) as stop:
        main([w.format(tmp=tmp_path, checkpoint=checkpoint) for w in words])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert text.format(checkpoint=checkpoint) in error and "Traceback" not in error
    assert words == ["fly"] or error.count("\n") == 1
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_a_checkpoint_without_episodes_is_exported_without(tmp_path, checkpoint, capsys):
    shutil.copytree(checkpoint, tmp_path / "alone", ignore=shutil.ignore_patterns("contexts"))
    main(["export", "--checkpoint", str(tmp_path / "alone"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out/contexts").exists() and (tmp_path / "out/model.safetensors").is_file()
    assert capsys.readouterr().out.endswith(f" Next: lssvwm play {tmp_path / 'out'}\n")
    main(["export", "--checkpoint", checkpoint, "--out", str(tmp_path / "whole")])
    assert capsys.readouterr().out.endswith(f" Next: lssvwm dream --checkpoint {tmp_path / 'whole'}\n")
    with pytest.raises(SystemExit):
        main(["dream", "--checkpoint", str(tmp_path / "out"), "--out", str(tmp_path / "dream.mp4")])
    assert "out has no episodes to start dreams from; give real frames with" in capsys.readouterr().err
    assert not (tmp_path / "dream.mp4").exists()


def test_help_and_import_stay_light():
    code = "import sys, lssvwm_rl, lssvwm_rl.cli; assert 'torch' not in sys.modules and 'zarr' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    shown = subprocess.run([sys.executable, "-m", "lssvwm_rl", "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0 and "quickstart" in shown.stdout + shown.stderr


def test_dream_writes_a_video_once(checkpoint, tmp_path):
    words = ["dream", "--checkpoint", checkpoint, "--steps", "3", "--out", str(tmp_path / "d.mp4")]
    main([*words, "--context-length", "2"])
    assert (tmp_path / "d.mp4").stat().st_size > 500
    with pytest.raises(SystemExit):
        main(words)


def test_dreams_of_short_episodes_begin_before_their_end(tmp_path, capsys):
    """No episode has the eight frames that dreams begin after by themselves."""
    checkpoint = save_checkpoint(tmp_path / "short", "discrete")
    episodes = load_contexts(checkpoint)
    longest = max(len(episode) for episode in episodes)
    assert longest < 8
    main(["dream", "--checkpoint", checkpoint, "--steps", "3", "--out", str(tmp_path / "d.mp4")])
    assert f"{longest} real frames, then 3 dreamt ones" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["dream", "--checkpoint", checkpoint, "--context-length", "9", "--out", str(tmp_path / "e.mp4")])
    assert f"choose 1 to {longest + 1}." in capsys.readouterr().err


@dataclass(frozen=True)
class Size:
    width: int = 32
    """Of a layer."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"A width of {self.width} is none; choose 1 or more.")


@dataclass(frozen=True)
class Build:
    """Build something."""

    out: str
    """Where to."""
    preset: str = "tiny"
    """Where sizes come from."""
    size: Size = Size()
    """What is built."""
    fast: str | None = None
    """How fast."""


@pytest.fixture
def built(monkeypatch) -> list[Build]:
    """What a command `build` was called with, one that has options of before and defaults that depend on words."""
    calls: list[Build] = []

    def defaults(words: list[str]) -> Build:
        preset = words[words.index("--preset") + 1] if "--preset" in words else "tiny"
        if preset not in ("tiny", "large"):
            raise ValueError(f"Preset {preset!r} is unknown; use tiny or large.")
        return Build(out=tyro.MISSING, preset=preset, size=Size({"tiny": 32, "large": 256}[preset]))

    module = ModuleType("build")
    module.Build, module.main, module.defaults = Build, calls.append, defaults
    renamed = {"--layer-width": "--size.width", "--fast": "--fast SPEED", "--depth": "it follows from the width."}
    module.RENAMED = renamed
    monkeypatch.setitem(sys.modules, "build", module)
    monkeypatch.setitem(COMMANDS, "build", ("build:Build", "build something"))
    return calls


def test_defaults_depend_on_words_and_nested_fields_are_options(built):
    main(["build", "--out", "a"])
    main(["build", "--out", "a", "--preset", "large"])
    main(["build", "--out", "a", "--preset", "large", "--size.width", "7", "--fast", "10"])
    assert built == [Build("a"), Build("a", "large", Size(256)), Build("a", "large", Size(7), "10")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--layer-width", "3"], "`--layer-width` is now `--size.width`."),
        (["--layer_width=3"], "`--layer-width` is now `--size.width`."),
        (["--fast"], "`--fast` is now `--fast SPEED`."),
        (["--fast", "--preset", "tiny"], "`--fast` is now `--fast SPEED`."),
        (["--depth", "3"], "`--depth` is gone: it follows from the width."),
        (["--preset", "huge"], "Preset 'huge' is unknown; use tiny or large."),
        (["--size.width", "0"], "A width of 0 is none; choose 1 or more."),
    ],
)
def test_old_names_and_refused_values_are_one_sentence(built, words, said, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["build", "--out", "a", *words])
    assert stop.value.code == 2 and capsys.readouterr().err == f"lssvwm build: {said}\n" and not built


def test_what_tyro_finds_wrong_is_shown_as_it_says_it(built, capsys):
    for words, said in ((["--out", "a", "--size.width", "x"], "--size.width"), ([], "--out")):
        with pytest.raises(SystemExit) as stop:
            main(["build", *words])
        assert stop.value.code == 2 and said in capsys.readouterr().err and not built


def test_bugs_keep_their_traceback(built, monkeypatch):
    monkeypatch.setattr(sys.modules["build"], "main", lambda args: {}["nothing"])
    with pytest.raises(KeyError):
        main(["build", "--out", "a"])


def test_warnings_are_sentences_too():
    """Those for users without the line of code; afterwards all are written as before."""
    usual, said = warnings.formatwarning, []

    def warn(options):
        said.extend(warnings.formatwarning("It is so.", kind, "a.py", 3) for kind in (RuntimeWarning, FutureWarning))

    run(Command("lssvwm test", Size, warn), [])
    assert said == ["lssvwm test: It is so.\n", usual("It is so.", FutureWarning, "a.py", 3)]
    assert warnings.formatwarning is usual
