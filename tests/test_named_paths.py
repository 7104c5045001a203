"""A missing file is the user's matter where the user named it; where a bug looks for it, its traceback stays."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lssvwm_rl.cli import run
from lssvwm_rl.command import Command


@dataclass(frozen=True)
class Options:
    out: Path
    """Where to."""


def opens(name: str):
    """A command that opens a file inside of its folder, which is called "" or is another one."""
    return Command("lssvwm test", Options, lambda options: open(options.out / name).close())


@pytest.mark.parametrize("words", [["--out", "{}"], ["--out={}"]], ids=" ".join)
@pytest.mark.parametrize(("named", "name", "missing"), [("none", "", "none"), ("none/in", "", "none/in"),
    ("none", "in.json", "none/in.json"), ("none/../gone", "", "none/../gone"), ("link", "", "link")])  # fmt: skip
def test_what_the_user_named_is_a_sentence(tmp_path, monkeypatch, capsys, words, named, name, missing):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("nowhere")
    for folder in (tmp_path, Path()):  # absolute, and from here
        with pytest.raises(SystemExit) as stop:
            run(opens(name), [word.format(folder / named) for word in words])
        said = f"lssvwm test: No such file or directory ({folder / missing}); correct the path.\n"
        assert stop.value.code == 2 and capsys.readouterr().err == said


@pytest.mark.parametrize("name", ["bug.json", "bug/in.json", "../other", "/nowhere/bug.json"])
def test_what_a_bug_looks_for_keeps_its_traceback(tmp_path, monkeypatch, capsys, name):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    for out in ("out", str(tmp_path / "out")):
        with pytest.raises(FileNotFoundError) as found:
            run(opens(name), ["--out", out])
        assert "bug" in str(found.value) or "other" in str(found.value)
    assert capsys.readouterr().err == ""


def test_a_program_that_is_missing_is_a_bug(tmp_path):
    def start(_) -> None:
        subprocess.run([str(tmp_path / "no-program")], check=False)

    with pytest.raises(FileNotFoundError):
        run(Command("lssvwm test", Options, start), ["--out", "no-program-of-the-user"])


def test_sentences_of_this_package_stay(capsys):
    def refuse(options: Options) -> None:
        raise FileNotFoundError(f"There is nothing at {options.out}; name another.")

    with pytest.raises(SystemExit):
        run(Command("lssvwm test", Options, refuse), ["--out", "a"])
    assert capsys.readouterr().err == "lssvwm test: There is nothing at a; name another.\n"


def test_a_current_folder_that_is_gone_is_a_sentence(tmp_path):
    (tmp_path / "gone").mkdir()
    code = "import os, shutil, sys; os.chdir(sys.argv[1]); shutil.rmtree(sys.argv[1]); from lssvwm_rl.cli import main; "
    code += "main(['data', 'split', 's', '--out-train', 'a', '--out-test', 'b'])"
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "gone")], env={**os.environ, "PYTHONPATH": paths},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr and not list(tmp_path.iterdir()), done.stderr
