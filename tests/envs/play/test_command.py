"""`lssvwm play` as users start it: its address, its refusals, and that a page that does not read holds up nobody."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
import uvicorn
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from lssvwm_envs.play import wire
from lssvwm_envs.play.server import bind
from lssvwm_rl.cli import main
from lssvwm_rl.data.store import EpisodeStore


@contextmanager
def served(*words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of a server in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "lssvwm_rl", "play", *words, "--port", "0", "--denoise-steps", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            line = process.stdout.readline()
            found = re.fullmatch(r"Play at (http://127\.0\.0\.1:\d+/[\w-]{32}/) \(Ctrl\+C ends it\)\.\n", line)
            assert found, line + process.stderr.read()
            yield found[1], process
        finally:
            process.kill()


def page_of(address: str) -> ClientConnection:
    parts = urlsplit(address)
    origin = f"{parts.scheme}://{parts.netloc}"
    return connect(f"ws://{parts.netloc}{parts.path}socket", origin=origin, compression=None, max_size=None)


def views(page: ClientConnection, done: int) -> dict:
    """The first view after so many requests."""
    while True:
        header, _ = wire.decode(page.recv(timeout=120))
        if header["type"] == "view" and header["done"] >= done:
            return header


@pytest.mark.slow
def test_it_serves_until_it_is_interrupted_and_slow_pages_hold_up_nobody(tmp_path):
    with served("minigrid-memory", "--out", str(tmp_path / "played")) as (address, process):
        with urlopen(Request(address)) as answer:
            assert b"lssvwm play" in answer.read()
        with pytest.raises(HTTPError) as refused:
            urlopen(address.replace(urlsplit(address).path, "/"))
        assert refused.value.code == 403
        with pytest.raises(InvalidStatus) as stranger, page_of(address.replace(urlsplit(address).path, "/wrong/")):
            pass
        assert b"The token is wrong or missing; open the address" in stranger.value.response.body
        with page_of(address) as slow, page_of(address) as quick:
            views(quick, 0)
            for number in range(400):  # whose answers nobody reads
                slow.send('{"do":"look","at":0}' if number % 2 else '{"do":"act","action":0}')
            quick.send('{"do":"record","on":true}')
            for _ in range(5):
                quick.send('{"do":"act","action":0}')
            view = views(quick, 6)
            assert view["last"] == 5 and view["recording"]
        for _ in range(100):  # until the session has ended, which stores what was recorded
            if list((tmp_path / "played").glob("shard-*")):
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        said = process.stderr.read()
        assert "1 episodes were added to" in said and said.count("\n") == 1, said
    assert len(EpisodeStore(tmp_path / "played")[0]) == 5


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["{tmp}/none"], "no checkpoint"),
        (["{checkpoint}", "{tmp}/none"], "no checkpoint"),
        (["{checkpoint}", "--port", "70000"], "There is no port 70000"),
        (["{checkpoint}", "--horizon", "0"], "horizon must be a whole number from 1"),
        (["{checkpoint}", "--context-length", "0"], "context_length"),
        (["{checkpoint}", "--env", "NoSuchEnv-v0"], "NoSuchEnv"),
        (["{checkpoint}", "--env", "lssvwm/MemoryMaze-9x9-v0"], "use the environment it was trained on"),
        (["{checkpoint}", "--resize", "8", "8"], "The environment of the checkpoint"),
        (["{checkpoint}", "--out", "{checkpoint}/contexts"], "was collected with policy"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[1:2]),
)
def test_bad_input_is_one_sentence(words, text, tmp_path, checkpoint, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["play", *(word.format(tmp=tmp_path, checkpoint=checkpoint) for word in words)])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and text in error and error.count("\n") == 1 and "Traceback" not in error


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "contexts/header.json"])
@pytest.mark.parametrize("named", [1, 2])
def test_a_checkpoint_that_is_broken_is_said_before_a_page_is_opened(checkpoint, tmp_path, capsys, file, named):
    broken = shutil.copytree(checkpoint, tmp_path / "broken")
    data = (broken / file).read_bytes()
    (broken / file).write_bytes(data[: len(data) // 2])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        main(["play", *[checkpoint, str(broken)][-named:], "--port", "0", "--out", str(tmp_path / "played")])
    said = capsys.readouterr()
    assert stop.value.code == 2 and str(broken) in said.err and said.err.count("\n") == 1 and not said.out
    assert sorted(tmp_path.rglob("*")) == before


def test_a_port_in_use_is_one_sentence(checkpoint, capsys):
    with bind(0) as bound:
        with pytest.raises(SystemExit):
            main(["play", checkpoint, "--port", str(bound.getsockname()[1])])
    assert "is in use; choose another --port, or 0 for any free one.\n" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_python_passes_over_ends_the_command_all_the_same(number, monkeypatch, capsys):
    """As where what it raises comes in the midst of a finalizer."""

    def run(server, sockets):
        server.handle_exit(number, None)

    monkeypatch.setattr(uvicorn.Server, "run", run)
    with pytest.raises(SystemExit) as stop:
        main(["play", "minigrid-memory", "--port", "0"])
    assert stop.value.code == 128 + number and "nothing was stored" in capsys.readouterr().err
