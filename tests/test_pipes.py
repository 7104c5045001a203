"""A command whose output nobody reads any more ends quietly, with the exit code of SIGPIPE."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lssvwm_rl.pipes import UNREAD, ends_where_nobody_reads

COMMAND = [sys.executable, "-m", "lssvwm_rl"]
MANY = "from lssvwm_rl.pipes import *\nwith ends_where_nobody_reads():\n    while True: print('x' * 100_000)"
ONE = "from lssvwm_rl.pipes import *\nwith ends_where_nobody_reads():\n    print('x')"
AMONG = ONE.replace("print('x')", "print('x', flush=True); raise SystemExit(0)")


def ended(command: list[str], *closed: str) -> tuple[int, str]:
    """Exit code and what was said of a process whose given streams lead into a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    streams = {name: write if name in closed else subprocess.PIPE for name in ("stdout", "stderr")}
    try:
        done = subprocess.run(command, **streams, text=True, timeout=100, check=False)
    finally:
        os.close(write)
    return done.returncode, (done.stdout or "") + (done.stderr or "")


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["--completion", "bash"],
        ["train", "--help"],
        ["bench"],
        ["data", "inspect", "--help"],
    ],
    ids=" ".join,
)
def test_commands_end_quietly(words):
    assert ended([*COMMAND, *words], "stdout") == (UNREAD, "")


def test_sentences_that_nobody_reads_end_quietly(tmp_path):
    assert ended([*COMMAND, "data", "inspect", str(tmp_path / "none")], "stderr") == (UNREAD, "")
    assert ended([*COMMAND, "fly"], "stdout", "stderr") == (UNREAD, "")
    code, said = ended([*COMMAND, "fly"], "stdout")
    assert code == 2 and said.startswith("lssvwm: there is no command 'fly'."), "it wrote nothing there"


@pytest.mark.parametrize("script", [MANY, ONE, AMONG], ids=["much", "at the end", "before the end"])
def test_however_much_is_written(script):
    assert ended([sys.executable, "-c", script], "stdout") == (UNREAD, "")


def test_a_reader_that_leaves_in_the_middle_ends_it():
    with subprocess.Popen([sys.executable, "-c", MANY], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.read(10) == b"x" * 10
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(100) == UNREAD


def test_other_pipes_that_break_are_no_reason_to_be_quiet(capfd):
    """Such as one to a worker that was killed."""
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(BrokenPipeError), ends_where_nobody_reads(), os.fdopen(write, "w") as pipe:
        print("before")
        pipe.write("x" * 100_000)
    assert capfd.readouterr().out == "before\n"


def test_what_is_read_is_whole():
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: lssvwm COMMAND") and not done.stderr
