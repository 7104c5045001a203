"""Signals end commands with what was done kept, one sentence, and the exit code that shells give."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import make_dataclass

import pytest

from lssvwm_rl.cli import run
from lssvwm_rl.command import Command
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.stopping import Stopped, noted_signals, stopped_by_signals

OPTIONS = make_dataclass("Options", [])


@pytest.fixture
def heard():
    """SIGINT is heard, which background jobs of a shell ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_stopped_says_so(number, code, capsys, heard):
    def command(_) -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)

    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stop:
        run(Command("lssvwm x", OPTIONS, command), [])
    assert stop.value.code == code and signal.getsignal(number) is before
    assert capsys.readouterr().err == "lssvwm x: stopped; what was finished is kept.\n"


def test_signals_are_noted_by_who_stops_by_himself():
    with pytest.raises(Stopped) as stop, stopped_by_signals(), noted_signals() as noted:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped):  # who cannot wait
            os.kill(os.getpid(), signal.SIGINT)
    assert noted == [signal.SIGTERM, signal.SIGINT]
    assert stop.value.code == 143  # the first is not lost, though the work has not looked
    with pytest.raises(Stopped) as stop, stopped_by_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.value.code == 143 and isinstance(stop.value, KeyboardInterrupt)


WORKER = """
import os, signal, time
from lssvwm_rl.stopping import stopped_by_signals
with stopped_by_signals():
    child = os.fork()
    if not child:
        time.sleep(60)
    time.sleep(0.5)
    os.kill(child, signal.SIGTERM)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_workers_end_as_they_would():
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["15"] and not done.stderr


def test_a_collection_that_is_stopped_keeps_what_was_finished(tmp_path):
    words = "collect MiniGrid-MemoryS7-v0 --policy random --num-envs 2 --episodes 100000 --env-kwargs max_steps 20"
    program = "import sys; from lssvwm_rl.cli import main; main(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words.split(), "--out", str(tmp_path / "store")],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        limit = time.monotonic() + 120
        while not (tmp_path / "store" / "header.json").exists() and time.monotonic() < limit and process.poll() is None:
            time.sleep(0.1)
        time.sleep(2)  # no shard is whole yet
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143 and error.strip().endswith("lssvwm collect: stopped; what was finished is kept.")
    store = EpisodeStore(tmp_path / "store")
    assert len(store) > 0 and len(set(store.seeds.tolist())) == len(store)
    assert not list((tmp_path / "store").glob(".tmp-*"))
