"""Frames per second that a page of `lssvwm play` sees, against those that the model alone dreams at batch 1.

    python benchmarks/speed/play.py [--checkpoints minigrid-memory maze-memory] [--turns 7]

Beside packaged checkpoints a larger model is played that was never trained: what an action costs beside the model's
own work is the same for all. The page is a websocket client in this process, the server a process of its own, as users
start it; turns of the model alone, of `DreamEnv.step` and of the client follow one another, and medians are compared.
They need two cores that do nothing else.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import numpy as np
import torch
import tyro
from websockets.sync.client import ClientConnection, connect

from lssvwm_bench.stopwatch import seconds_of
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
    """In a turn."""
    turns: int = 7
    denoise_steps: int = 4


@contextmanager
def server(checkpoint: str, args: Args) -> Iterator[str]:
    """The address of a server while the block runs."""
    words = ["play", checkpoint, "--port", "0", "--horizon", str(FAR), "--denoise-steps", str(args.denoise_steps)]
    process = subprocess.Popen([sys.executable, "-m", "lssvwm_rl", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        found = re.search(r"http://\S+/", process.stdout.readline())
        if found is None:
            raise RuntimeError("The server does not start; see above.")
        yield found[0]
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

    with server(checkpoint, args) as address:
        parts = urlsplit(address)
        origin: object = f"{parts.scheme}://{parts.netloc}"
        with connect(
            f"ws://{parts.netloc}{parts.path}socket", origin=origin, compression=None, max_size=None
        ) as socket:  # type: ignore[arg-type]
            page = Page(socket)
            rates: dict[str, list[float]] = {"model": [], "env": [], "page": []}
            for _ in range(args.turns + 1):
                page.ask({"do": "mode", "mode": "dream"})
                page.ask({"do": "begin"} if trained else {"do": "picture"}, picture.tobytes())
                for name, play in (
                    ("model", model_alone),
                    ("env", environment),
                    ("page", lambda: page.act(args.frames)),
                ):
                    seen: list[int] = []
                    seconds = seconds_of(lambda play=play, seen=seen: seen.append(play()))  # type: ignore[misc]
                    rates[name].append(seen[0] / seconds)
    model, environment_rate, client = (median(rates[name][1:]) for name in ("model", "env", "page"))
    shares = [page / alone for page, alone in zip(rates["page"][1:], rates["model"][1:], strict=True)]
    return (
        f"{Path(checkpoint).name:16} model alone {model:6.0f}/s   DreamEnv.step {environment_rate:6.0f}/s   "
        f"page {client:6.0f}/s, {median(shares):4.0%} of the model ({min(shares):.0%} to {max(shares):.0%})"
    )


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
            print(measure(str(Path(folder) / preset), args), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args))
