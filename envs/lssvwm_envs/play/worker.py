"""Worker: the thread that plays one session, and nothing that waits for a network."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable
from typing import Any

import torch
from gymnasium.error import Error

from lssvwm_envs.play import wire
from lssvwm_envs.play.real import Recorder
from lssvwm_envs.play.requests import OPEN, perform
from lssvwm_envs.play.session import Session
from lssvwm_envs.play.settings import Settings
from lssvwm_envs.play.stage import Stage

WAITING = 32  # requests; more actions than that are dropped, so that nobody plays what was pressed long ago
MOST_TEXT = 400  # characters of a sentence


class Worker:
    """Plays a session in a thread of its own. One session's work never waits for another's, but for loading.

    Args:
        stage: what can be played.
        settings: to begin with.
        recorder: see `Session`.
        show: called in the thread with every view, of which only the newest counts.
        send: called in the thread with every other message, none of which may be lost.
        ended: called in the thread when it ends.
    """

    def __init__(
        self,
        stage: Stage,
        settings: Settings,
        recorder: Recorder | None,
        show: Callable[[bytes], None],
        send: Callable[[bytes], None],
        ended: Callable[[], None],
    ):
        self._stage, self._settings, self._recorder = stage, settings, recorder
        self._show, self._send, self._ended = show, send, ended
        self._requests: queue.Queue[tuple[dict[str, Any], bytes] | None] = queue.Queue(WAITING)
        self._stopping = threading.Event()
        self._session: Session | None = None
        self._done = 0
        self._thread = threading.Thread(target=self._run, name="play", daemon=True)

    def start(self) -> None:
        """Begin with the stage's first offer."""
        self._thread.start()

    def submit(self, request: dict[str, Any], payload: bytes = b"") -> bool:
        """Have a request done after those before it; False if too many are waiting, and it is dropped."""
        try:
            self._requests.put_nowait((request, payload))
        except queue.Full:
            return False
        return True

    def stop(self) -> None:
        """End after what is being done."""
        self._stopping.set()
        try:
            self._requests.put_nowait(None)
        except queue.Full:
            pass  # it looks before the next one

    def join(self, timeout: float) -> None:
        """Wait for the end, in seconds."""
        self._thread.join(timeout)

    def _run(self) -> None:
        torch.set_num_threads(1)  # frames are small, and sessions share the cores
        try:
            self._open(self._stage.first)
            while not self._stopping.is_set():
                item = self._requests.get()
                if item is None:
                    break
                self._do(*item)
        finally:
            self._guarded(self._close)
            self._ended()

    def _do(self, request: dict[str, Any], payload: bytes) -> None:
        if request.get("do") == OPEN:
            self._open(str(request.get("checkpoint")))
        elif self._session is None:
            self._send(wire.note("Nothing is loaded; choose a checkpoint.", wrong=True))
        else:
            session = self._session
            if request.get("do") == "settings" and "denoise_steps" in request:
                self._send(wire.note("The scale of doubt for so many passes may have to be measured: some seconds."))
            answer = self._guarded(lambda: perform(session, request, payload))
            if answer is not None:
                self._send(answer)
        self._done += 1
        if self._session is not None:
            self._show(wire.view(self._session, self._done))

    def _open(self, name: str) -> None:
        """Load a checkpoint; the one that was played stays if it cannot be."""

        def load() -> bytes:
            loaded = self._stage.load(name)
            settings = self._settings if self._session is None else self._session.settings
            session = Session(loaded, settings, self._recorder)
            self._guarded(self._close)
            self._session = session
            return wire.opening(self._session, list(self._stage.offers), name, self._recorder is not None)

        self._send(wire.note("Loading ..."))
        answer = self._guarded(load)
        if answer is not None:
            self._send(answer)
            if self._session is not None:
                self._show(wire.view(self._session, self._done))

    def _close(self) -> None:
        if self._session is not None:
            self._session.end()

    def _guarded(self, work: Callable[[], bytes | None]) -> bytes | None:
        """Do some work; what goes wrong becomes a sentence, and of what no user can have caused nothing is told."""
        try:
            return work()
        except (ValueError, Error) as error:
            text = " ".join(str(error).split())
            self._send(wire.note(text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]} ...", wrong=True))
        except Exception:  # of environments, too, which are anybody's
            traceback.print_exc()
            self._send(wire.note("Something failed; the terminal says what.", wrong=True))
        return None
