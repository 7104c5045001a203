"""The server of `lssvwm play`: four files, and a websocket on which everything else goes."""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from gymnasium.error import DependencyNotInstalled

from lssvwm_envs.play import wire
from lssvwm_envs.play.guards import App, Guard
from lssvwm_envs.play.real import Recorder
from lssvwm_envs.play.requests import ACT
from lssvwm_envs.play.settings import Settings
from lssvwm_envs.play.stage import Stage
from lssvwm_envs.play.worker import Worker
from lssvwm_rl.stopping import Stopped

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

STATIC = Path(__file__).parent / "static"
FILES = {"/": "index.html", "/play.js": "play.js", "/view.js": "view.js", "/play.css": "play.css"}
LOOPBACK = "127.0.0.1"
SESSIONS = 4
IDLE_SECONDS = 900.0
CONNECTIONS = 32
UNSENT = 8  # messages that may not be lost; a page that lets more wait is let go


@dataclass(frozen=True)
class ServerConfig:
    """Bounds of a server."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    sessions: int = SESSIONS
    """Played at a time."""
    idle_seconds: float = IDLE_SECONDS
    """Without any request, after which a session ends."""
    hosts: tuple[str, ...] = (f"{LOOPBACK}:8000", "localhost:8000")
    """Values of Host that are this server's."""


class Outbox:
    """What a page is still to be sent: views, of which the newest replaces those before it, and other messages.

    Its methods but `sending` are called in the worker's thread; whoever sends is woken in the loop's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop, self._ready = loop, asyncio.Event()
        self._view: bytes | None = None
        self._others: deque[bytes] = deque()
        self._overflown = False

    def show(self, view: bytes) -> None:
        """Replace the view that is to be sent."""
        self._view = view
        self._wake()

    def send(self, message: bytes) -> None:
        """Add a message."""
        self._others.append(message)
        self._overflown = self._overflown or len(self._others) > UNSENT
        self._wake()

    async def sending(self, websocket: WebSocket) -> str:
        """Send until the page is gone, or does not read what it is sent, and say so."""
        while not self._overflown:
            await self._ready.wait()
            self._ready.clear()
            while self._others:
                await websocket.send_bytes(self._others.popleft())
            view, self._view = self._view, None
            if view is not None:
                await websocket.send_bytes(view)
        return "The page did not read what it was sent, so this session has ended; load it again."

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:
            pass  # the loop has ended, and nobody reads


def make_app(stage: Stage, settings: Settings, recorder: Recorder | None, config: ServerConfig) -> App:
    """The ASGI application; everything outside the address with its token is refused.

    Raises:
        gymnasium.error.DependencyNotInstalled: if the extra is missing.
    """
    try:
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import FileResponse
        from starlette.routing import Route, WebSocketRoute
    except ImportError as error:
        raise missing(error) from error

    workers: set[Worker] = set()

    async def page(request: Request) -> FileResponse:
        return FileResponse(STATIC / FILES[request.url.path])

    async def socket_of_page(websocket: WebSocket) -> None:
        await websocket.accept()
        if len(workers) >= config.sessions:
            text = f"{config.sessions} sessions are played already; close another page and load this one again."
            await websocket.send_bytes(wire.note(text, wrong=True))
            await websocket.close(1013, "Too many sessions.")
            return
        loop = asyncio.get_running_loop()
        outbox = Outbox(loop)

        def ended() -> None:
            try:
                loop.call_soon_threadsafe(workers.discard, worker)
            except RuntimeError:
                pass  # the loop has ended

        worker = Worker(stage, settings, recorder, outbox.show, outbox.send, ended)
        workers.add(worker)
        outbox.send(wire.opening(None, list(stage.offers), stage.first, recorder is not None))
        worker.start()
        try:
            await _serve_session(websocket, worker, outbox, config.idle_seconds)
        finally:
            worker.stop()

    routes: list[Any] = [Route(path, page, methods=["GET"]) for path in FILES]
    app: Any = Starlette(routes=[*routes, WebSocketRoute("/socket", socket_of_page)])
    app.state.workers = workers
    guarded: Any = Guard(app, config.token, config.hosts)
    return guarded


async def _serve_session(websocket: WebSocket, worker: Worker, outbox: Outbox, idle_seconds: float) -> None:
    """Until one side ends it. Reading never waits for sending, nor sending for reading."""
    import anyio
    from starlette.websockets import WebSocketDisconnect

    heard, reasons = Heard(asyncio.get_running_loop().time()), list[str | None]()

    async def first(work: Callable[[], Awaitable[str | None]]) -> None:
        try:
            reasons.append(await work())
        except (WebSocketDisconnect, OSError):
            pass  # the page is gone
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(first, partial(outbox.sending, websocket))
        group.start_soon(first, partial(_read, websocket, worker, outbox, heard))
        group.start_soon(first, partial(_idle, heard, idle_seconds))
    if reasons and reasons[0] is not None:
        with anyio.move_on_after(2.0), suppress(WebSocketDisconnect, OSError):
            await websocket.send_bytes(wire.note(reasons[0], wrong=True))
            await websocket.close(1000, reasons[0][:100])


@dataclass
class Heard:
    """When a page was last heard of, in seconds of the loop's clock."""

    at: float


async def _idle(heard: Heard, seconds: float) -> str:
    """Wait until nothing was heard for so long, and say so."""
    clock = asyncio.get_running_loop().time
    while (left := heard.at + seconds - clock()) > 0:
        await asyncio.sleep(left)
    return "Nothing was played for a long time, so this session has ended; load the page again."


async def _read(websocket: WebSocket, worker: Worker, outbox: Outbox, heard: Heard) -> None:
    """Hand requests on until the page is gone."""
    clock = asyncio.get_running_loop().time
    while True:
        message = await websocket.receive()
        heard.at = clock()
        if message["type"] == "websocket.disconnect":
            return
        data, text = message.get("bytes"), message.get("text")
        try:
            if data is not None and len(data) > wire.MOST_BYTES:
                raise ValueError(f"Files of more than {wire.MOST_BYTES // 2**20} MiB are refused.")
            request, payload = wire.decode(data) if data is not None else (wire.read_json(text or ""), b"")
        except ValueError as error:
            outbox.send(wire.note(str(error), wrong=True))
            continue
        if not worker.submit(request, payload) and request.get("do") != ACT:
            outbox.send(wire.note("Too much was asked for at a time; try it again.", wrong=True))


def missing(error: ImportError) -> DependencyNotInstalled:
    """What is said where the extra is not installed."""
    return DependencyNotInstalled(f"`lssvwm play` needs {error.name}; install it with `pip install lssvwm-rl[play]`.")


def bind(port: int) -> socket.socket:
    """A listening socket on this machine alone.

    Args:
        port: 0 for any free one.

    Raises:
        ValueError: if the port is in use, is not to be had, or is none.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"There is no port {port}; choose one from 1024 to 65535, or 0 for any free one.")
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((LOOPBACK, port))
        bound.listen(CONNECTIONS)
    except OSError as error:
        bound.close()
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
        raise ValueError(f"Port {port} {why}; choose another --port, or 0 for any free one.") from error
    return bound


def serve(app: App, bound: socket.socket, on_start: Callable[[], None]) -> None:
    """Answer until a signal comes.

    Args:
        on_start: called as soon as pages can be loaded.

    Raises:
        KeyboardInterrupt: `stopping.Stopped` after SIGTERM.
        gymnasium.error.DependencyNotInstalled: if the extra is missing.
    """
    try:
        import uvicorn
        import websockets
    except ImportError as error:
        raise missing(error) from error
    assert websockets.__name__  # without it uvicorn would refuse websockets only when one comes

    heard: list[int] = []

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            heard.append(sig)
            super().handle_exit(sig, frame)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_start()

    settings = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        lifespan="off",
        limit_concurrency=CONNECTIONS,
        ws_max_size=wire.MOST_BYTES + wire.MOST_TEXT,
        ws_max_queue=4,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=2,
        server_header=False,
        date_header=False,
    )
    # What uvicorn says of every websocket that is answered with a refusal, which is no error.
    logging.getLogger("uvicorn.error").addFilter(lambda said: "without completing handshake" not in said.getMessage())
    Server(settings).run(sockets=[bound])
    if heard:  # it is raised again in there, but Python passes over what is raised in the midst of a finalizer
        raise Stopped(heard[0])
