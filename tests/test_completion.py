"""Shells complete commands, options and choices from a script that calls no Python."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from lssvwm_rl.cli import COMMANDS, all_commands, main
from lssvwm_rl.completion import SHELLS, options_of, script


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """Of both shells, as files."""
    folder, commands = tmp_path_factory.mktemp("completion"), all_commands()
    for shell in SHELLS:
        (folder / shell).write_text(script(shell, commands))
    return folder


ASK = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
PATH=/nowhere
_lssvwm
printf '%s\\n' "${COMPREPLY[@]}"
"""


def ask_bash(scripts, line: str) -> list[str]:
    """What bash proposes for the last word of a line, without anything that it could call."""
    command = ["bash", "--norc", "-c", ASK, "ask", str(scripts / "bash"), *line.split(" ")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("line", "proposed"),
    [
        ("lssvwm co", ["collect"]),
        ("lssvwm --v", ["--version"]),
        ("lssvwm agent ", ["train", "loop", "baseline"]),
        ("lssvwm bench re", ["reasoning", "retrieval"]),
        ("lssvwm collect MiniGrid-MemoryS7-v0 --ep", ["--episodes"]),
        ("lssvwm collect --q", ["--quiet"]),
        ("lssvwm train --objective.n", ["--objective.noise-shift", "--objective.name"]),
        ("lssvwm train --preset ", ["tiny", "small", "base", "paper"]),
        ("lssvwm collect --out data --split v", ["validation"]),
        ("lssvwm bench agent --search ", ["cem", "icem", "mppi", "shooting"]),
        ("lssvwm --completion ", ["bash", "zsh"]),
        ("lssvwm train --data ", []),
        ("lssvwm fly --", []),
    ],
)
def test_bash_proposes(scripts, line, proposed):
    assert sorted(ask_bash(scripts, line)) == sorted(proposed)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_knows_every_command_and_uses_it(scripts):
    firsts = {name.split()[0] for name in COMMANDS}
    assert set(ask_bash(scripts, "lssvwm ")) == {*firsts, "--help", "--version", "--completion"}
    registered = subprocess.run(
        ["bash", "--norc", "-c", f'source "{scripts / "bash"}"; complete -p lssvwm'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert registered.stdout.split()[-2:] == ["_lssvwm", "lssvwm"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_proposes(scripts):
    ask = 'autoload -Uz compinit && compinit -u -d "$1.dump"; source "$1"; COMP_WORDS=(lssvwm agent tr); COMP_CWORD=2; '
    ask += "emulate sh -c _lssvwm; print -l $COMPREPLY; print ${_comps[lssvwm]}"
    done = subprocess.run(
        ["zsh", "-f", "-c", ask, "ask", str(scripts / "zsh")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == "train" and "_lssvwm" in done.stdout


def test_options_are_those_that_the_help_shows(capsys):
    for name in ("collect", "train", "bench agent"):
        command = all_commands()[name]
        with pytest.raises(SystemExit):
            command.parse(["--help"])
        shown = set(re.findall(r"^\W*(?:-h, )?(--\w[\w.-]*)", capsys.readouterr().out, re.MULTILINE))
        assert "--out" in shown and shown - {"--quiet"} <= set(options_of(command)), name


def test_the_command_prints_it():
    words = [sys.executable, "-m", "lssvwm_rl", "--completion", "bash"]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert printed == script("bash", all_commands())


@pytest.mark.parametrize("words", [["--completion"], ["--completion", "fish"], ["--completion", "bash", "zsh"]])
def test_other_shells_are_a_sentence(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "`lssvwm --completion bash|zsh`" in error and error.count("\n") == 1
