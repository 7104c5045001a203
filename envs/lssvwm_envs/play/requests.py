"""What a page can ask for, and which method of a session does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lssvwm_envs.play.session import Session
from lssvwm_envs.play.settings import RANGES
from lssvwm_envs.play.wire import encode

Request = dict[str, Any]
ACT = "act"
OPEN = "open"
"""Not a session's: it makes another one."""


def perform(session: Session, request: Request, payload: bytes = b"") -> bytes | None:
    """Do what a request asks for.

    Args:
        payload: bytes of an upload.

    Returns:
        A message with a file, if that was asked for.

    Raises:
        ValueError: if there is no such request.
        ValueError, gymnasium.error.Error: as the session's methods.
    """
    does = _TABLE.get(str(request.get("do")))
    if does is None:
        raise ValueError(f"There is no such request; use {', '.join([OPEN, *_TABLE])}.")
    return does(session, request, payload)


def _changed(session: Session, request: Request) -> None:
    session.change(**{name: request[name] for name in RANGES if name in request})


def _picture(session: Session, payload: bytes) -> None:
    shape = tuple(session.dreamer.model.config.frame_shape)
    if len(payload) != int(np.prod(shape)):
        raise ValueError(f"A picture of {len(payload):,} bytes does not fit; give {shape} uint8.")
    session.begin_with(np.frombuffer(payload, np.uint8).reshape(shape).copy())


def _file(name: str, kind: str, data: bytes) -> bytes:
    return encode({"type": "file", "name": name, "kind": kind}, data)


_Does = Callable[[Session, Request, bytes], "bytes | None"]
_TABLE: dict[str, _Does] = {
    ACT: lambda session, request, _: session.act(request.get("action")),
    "mode": lambda session, request, _: session.set_mode(request.get("mode")),
    "look": lambda session, request, _: session.look_at(request.get("at")),
    "fork": lambda session, request, _: session.fork(),
    "select": lambda session, request, _: session.select(request.get("number")),
    "close": lambda session, request, _: session.close(request.get("number")),
    "together": lambda session, request, _: session.drive_together(request.get("on")),
    "record": lambda session, request, _: session.record(request.get("on")),
    "settings": lambda session, request, _: _changed(session, request),
    "begin": lambda session, request, _: session.begin(),
    "next": lambda session, request, _: session.begin_next(),
    "picture": lambda session, request, payload: _picture(session, payload),
    "load": lambda session, request, payload: session.load(payload),
    "save": lambda session, request, _: _file("state.safetensors", "application/octet-stream", session.save()),
    "video": lambda session, request, _: _file("play.mp4", "video/mp4", session.video()),
}
