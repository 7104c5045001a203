"""How commands speak: bars in a terminal alone, quiet commands, and a last line that can be copied."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
from dataclasses import dataclass

import pytest

from lssvwm_rl.cli import run
from lssvwm_rl.command import Command
from lssvwm_rl.progress import counted, finish, progress_bar, say, silence

WORK = """
import time
from lssvwm_rl.progress import finish, progress_bar, say
say("begins")
with progress_bar("count [all]", "sheep") as bar:
    for k in range(5):
        time.sleep(0.3)
        bar(k + 1, 5, "[asleep]")
finish("5 sheep written to a b.txt.", ["cat", "a b.txt"])
"""


def in_terminal(program: str) -> str:
    """What a program writes to a terminal that is 120 characters wide."""
    ours, its = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, "-c", program], stdout=its, stderr=its, env=env)
    os.close(its)
    parts = []
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the end, on Linux
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    assert process.wait() == 0
    return b"".join(parts).decode()


def test_in_a_terminal_a_bar_shows_count_unit_rate_and_note():
    shown = in_terminal(WORK)
    assert "begins" in shown and "count [all]" in shown and "[asleep]" in shown
    assert "5/5 sheep, " in shown and "/s" in shown and "0:00:00" in shown
    assert shown.rstrip().endswith("5 sheep written to a b.txt. Next: cat 'a b.txt'")


def test_in_a_terminal_a_quiet_command_shows_its_last_line_alone():
    quiet = f"from lssvwm_rl.progress import silence\nwith silence():\n    exec({WORK!r})"
    assert in_terminal(quiet).split("\r\n") == ["5 sheep written to a b.txt. Next: cat 'a b.txt'", ""]


@pytest.mark.parametrize("env", [{}, {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}])
def test_in_a_pipe_there_is_no_bar_and_no_control_character(env):
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, env={**os.environ, **env}, check=True)
    assert done.stdout == b"begins\n5 sheep written to a b.txt. Next: cat 'a b.txt'\n" and done.stderr == b""


def test_what_is_printed_to_a_file_stays_out_of_the_bars_of_a_terminal(tmp_path):
    program = f"import sys\nsys.stdout = open({str(tmp_path / 'said')!r}, 'w')\n"
    program += WORK.replace("    for k", "    say('asleep soon')\n    for k") + "sys.stdout.close()"
    shown = in_terminal(program)
    assert "5/5 sheep" in shown and "asleep soon" not in shown and "begins" not in shown
    assert (tmp_path / "said").read_text().splitlines()[:2] == ["begins", "asleep soon"]


@dataclass(frozen=True)
class Options:
    """Options."""

    text: str = "a"
    """What is said."""


@pytest.mark.parametrize("words", [["--quiet"], ["--quiet", "--text", "b"], ["--text", "b", "--quiet"]])
def test_every_command_can_be_quiet(words, capsys):
    def work(options: Options) -> None:
        say(options.text)
        with progress_bar("work") as bar:
            bar(1, 1)
        finish(f"{options.text} written.")

    text = "b" if "b" in words else "a"
    run(Command("lssvwm work", Options, work), words)
    assert capsys.readouterr() == (f"{text} written.\n", "")
    run(Command("lssvwm work", Options, work), [word for word in words if word != "--quiet"])
    assert capsys.readouterr() == (f"{text}\n{text} written.\n", ""), "the next command is not quiet"


def test_silence_ends_with_its_block(capsys):
    with pytest.raises(KeyError), silence():
        say("nothing")
        raise KeyError
    say("something")
    assert capsys.readouterr().out == "something\n"


def test_the_next_command_is_quoted_for_the_shell(capsys):
    words = ["lssvwm", "train", "--data", "it's here", "--steps", 3]
    finish("Done.", words)
    said = capsys.readouterr().out
    assert shlex.split(said.partition("Next: ")[2]) == [str(word) for word in words] and said.count("\n") == 1


@pytest.mark.parametrize(
    ("of", "text"),
    [
        ((3, 1200, "episodes", 12.34), "3/1,200 episodes, 12.3/s"),
        ((3, 1200, "episodes", 0.05), "3/1,200 episodes, 3.0/min"),
        ((3, 10, "", 1234.5), "3/10, 1,234/s"),
        ((0, 10, "frames", None), "0/10 frames"),
    ],
)
def test_counts_and_rates(of, text):
    assert counted(*of) == text
