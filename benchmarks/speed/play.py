"""Frames per second that a page of `lssvwm play` sees, against those that the model alone dreams at batch 1.

    python benchmarks/speed/play.py [--checkpoints minigrid-memory maze-memory] [--turns 7]

Beside packaged checkpoints a larger model is played that was never trained: what an action costs beside the model's
own work is the same for all. The page is a websocket client in this process, the server a process of its own, as users
start it; turns of the model alone, of `DreamEnv.step` and of the client follow one another, and medians are compared.
They need two cores that do nothing else. Milliseconds are those that the cores worked per frame, on all threads of
the process that dreams.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import torch
import tyro
from websockets.sync.client import ClientConnection, connect

from lssvwm_bench.workload import awaken, untrained_model
from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.play import wire
from lssvwm_rl.model.checkpoint_files import CONTEXTS, resolve_checkpoint
from lssvwm_rl.model.checkpoints import load_engine

FAR = 100_000
ACT = '{"do":"act","action":0}'
AHEAD = 4  # actions that are sent before the view of the first has come


@dataclass(frozen=True)
class Args:
    """Sizes of the comparison."""

    checkpoints: tuple[str, ...] = ("minigrid-memory", "maze-memory")
    """Packaged names or folders, of Discrete actions; action 0 is taken."""
    presets: tuple[str, ...] = ("small",)
    """Of models that are not trained, for frames of 64 by 64 pixels."""
    frames: int = 300
    """In a turn; a tenth of them for presets."""
    turns: int = 7
    denoise_steps: int = 4


@contextmanager
def server(checkpoint: str, args: Args) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a server and its process while the block runs."""
    words = ["play", checkpoint, "--port", "0", "--horizon", str(FAR), "--denoise-steps", str(args.denoise_steps)]
    process = subprocess.Popen([sys.executable, "-m", "lssvwm_rl", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        found = re.search(r"http://\S+/", process.stdout.readline())
        if found is None:
            raise RuntimeError("The server does not start; see above.")
        yield found[0], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


class Page:
    """A client that acts as fast as it is answered."""

    def __init__(self, socket: ClientConnection):
        self._socket, self._sent, self._done = socket, 0, 0
        self._socket.recv()  # what the page is to be offered; the rest comes when it is loaded
        while not self._loaded():
            pass

    def ask(self, request: dict[str, object], payload: bytes = b"") -> None:
        """Ask with an upload, and wait until it is done."""
        self._send(wire.encode(request, payload))
        while self._done < self._sent:
            self._view()

    def act(self, count: int) -> int:
        """Take action 0 so often; how many views of it came."""
        seen, until = 0, self._sent + count
        while self._done < until:
            while self._sent < until and self._sent - self._done < AHEAD:
                self._send(ACT)
            seen += self._view()
        return seen

    def _loaded(self) -> bool:
        """Whether the next message says so."""
        message = self._socket.recv()
        assert isinstance(message, bytes)
        return "controls" in wire.decode(message)[0]

    def _send(self, request: str | bytes) -> None:
        self._socket.send(request)
        self._sent += 1

    def _view(self) -> bool:
        message = self._socket.recv()
        assert isinstance(message, bytes)
        header, _ = wire.decode(message)
        if header.get("wrong"):
            raise RuntimeError(header["text"])
        if header["type"] != "view":
            return False
        self._done = header["done"]
        return True


def measure(checkpoint: str, args: Args) -> str:
    """A row of the table."""
    engine, action = load_engine(checkpoint), torch.zeros(1, dtype=torch.int64)
    generators, memory = [torch.Generator().manual_seed(0)], engine.model.initial_memory(1)
    env = DreamEnv(checkpoint, horizon=FAR, denoise_steps=args.denoise_steps)
    picture = np.zeros(engine.model.config.frame_shape, np.uint8)
    trained = (resolve_checkpoint(checkpoint) / CONTEXTS).is_dir()
    begin = None if trained else {"context": (picture[None], np.zeros(0, np.int64))}

    def model_alone() -> int:
        after = memory
        for _ in range(args.frames):
            after = engine.imagine(after, action, engine.draw(generators), args.denoise_steps).memory
        return args.frames

    def environment() -> int:
        env.reset(seed=0, options=begin)
        for _ in range(args.frames):
            if env.step(0)[2]:
                env.reset(options=begin)
        return args.frames

    with server(checkpoint, args) as (address, process), page_of(address) as socket:
        page, rates, busy = Page(socket), dict[str, list[float]](), dict[str, list[float]]()
        for _ in range(args.turns + 1):
            page.ask({"do": "mode", "mode": "dream"})
            page.ask({"do": "begin"} if trained else {"do": "picture"}, picture.tobytes())
            for name, play, where in (
                ("model", model_alone, psutil.Process()),
                ("env", environment, psutil.Process()),
                ("page", lambda: page.act(args.frames), process),
            ):
                before, began = sum(where.cpu_times()[:2]), time.perf_counter()
                frames = play()
                rates.setdefault(name, []).append(frames / (time.perf_counter() - began))
                busy.setdefault(name, []).append(1e3 * (sum(where.cpu_times()[:2]) - before) / frames)
    rate, cpu = ({name: median(values[1:]) for name, values in found.items()} for found in (rates, busy))
    shares = [ours / alone for ours, alone in zip(rates["page"][1:], rates["model"][1:], strict=True)]
    return (
        f"{Path(checkpoint).name:16} model {rate['model']:5.0f}/s, {cpu['model']:6.2f} ms   "
        f"DreamEnv {rate['env']:5.0f}/s, {cpu['env']:6.2f} ms   page {rate['page']:5.0f}/s, {cpu['page']:6.2f} ms, "
        f"{median(shares):4.0%} of the model's frames ({min(shares):.0%} to {max(shares):.0%})"
    )


def page_of(address: str) -> ClientConnection:
    """A websocket to a server, as its page opens one."""
    parts = urlsplit(address)
    origin: Any = f"{parts.scheme}://{parts.netloc}"
    return connect(f"ws://{parts.netloc}{parts.path}socket", origin=origin, compression=None, max_size=None)


def main(args: Args) -> None:
    """Print a table."""
    torch.set_num_threads(1)
    print(f"Frames per second at batch 1, {args.denoise_steps} passes; median of {args.turns} turns of {args.frames}")
    for checkpoint in args.checkpoints:
        print(measure(checkpoint, args), flush=True)
    for preset in args.presets:
        with TemporaryDirectory() as folder:
            model = awaken(untrained_model(preset, 64))
            torch.nn.init.constant_(model.get_parameter("continuation_head.mlp.2.bias"), -9.0)  # it never ends
            model.save_pretrained(Path(folder) / preset)
            print(measure(str(Path(folder) / preset), replace(args, frames=max(1, args.frames // 10))), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args))
