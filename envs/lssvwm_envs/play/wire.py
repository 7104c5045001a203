"""What goes over the websocket: JSON requests of a page, and binary messages of a header and bytes to it.

A message is 4 bytes, the length of the header (little endian), the header (JSON), and whatever bytes it speaks of. A
"view" has all that is shown; its panels' frames (H, W, C) uint8 and levels lie one after the other in the bytes. A
"file" has the bytes of one. A "note" has one sentence. What a page sends is JSON, or, for uploads, such a message.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from lssvwm_envs.play.moments import Panel
from lssvwm_envs.play.session import Session
from lssvwm_envs.play.settings import RANGES
from lssvwm_rl.model.heat_map import block_levels
from lssvwm_rl.model.world_model import WorldModel

LENGTH = struct.Struct("<I")
MOST_BYTES = 32 * 2**20
"""Of an upload; states are a few megabytes at most."""
MOST_TEXT = 64 * 2**10
"""Of a request."""


def encode(header: dict[str, Any], payload: bytes = b"") -> bytes:
    """A message."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return LENGTH.pack(len(text)) + text + payload


def decode(message: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the bytes of a message.

    Raises:
        ValueError: if it is none.
    """
    if len(message) < LENGTH.size:
        raise ValueError("The message is too short to be one.")
    (length,) = LENGTH.unpack_from(message)
    start = LENGTH.size
    if length > min(MOST_TEXT, len(message) - start):
        raise ValueError("The message is no header with bytes after it.")
    return read_json(message[start : start + length]), message[start + length :]


def read_json(text: str | bytes) -> dict[str, Any]:
    """A request.

    Raises:
        ValueError: if it is no JSON object, or too long.
    """
    try:
        if len(text) > MOST_TEXT:
            raise ValueError("too long")
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"A request is a JSON object of at most {MOST_TEXT:,} characters.") from error
    if not isinstance(found, dict):
        raise ValueError("A request is a JSON object.")
    return found


def view(session: Session, done: int) -> bytes:
    """All that a page shows of a session now.

    Args:
        done: requests that have been done; a page that waits for them does not send more than can be followed.
    """
    shown, settings, model = session.shown, session.settings, session.dreamer.model
    last = 0 if shown is None else len(shown.moments) - 1
    parts = [_panel(panel, session.is_cut(panel.line.now), model) for panel in session.panels()]
    header = {
        "type": "view",
        "done": done,
        "mode": session.mode,
        "at": 0 if shown is None else shown.at,
        "last": last,
        "dreamt_from": 0 if shown is None else max(0, last - shown.moments[-1].steps),
        "together": session.together,
        "recording": session.recording,
        "notice": session.notice,
        "settings": {name: getattr(settings, name) for name in RANGES},
        "panels": [header for header, _ in parts],
    }
    return encode(header, b"".join(payload for _, payload in parts))


def _panel(panel: Panel, cut: bool, model: WorldModel) -> tuple[dict[str, Any], bytes]:
    line, now = panel.line, panel.line.now
    levels = [np.round(255 * layer[0]).astype(np.uint8) for layer in block_levels(model, panel.memory)]
    header = {
        "name": line.name,
        "number": panel.number,
        "selected": panel.selected,
        "driven": panel.driven,
        "source": now.source,
        "at": line.at,
        "last": len(line.moments) - 1,
        "reward": now.reward,
        "total": now.total,
        "end": now.end,
        "doubt": now.doubt,
        "terminated": now.terminated,
        "truncated": now.truncated,
        "cut": cut,
        "shape": list(now.frame.shape),
        "levels": [list(layer.shape) for layer in levels],
    }
    return header, now.frame.tobytes() + b"".join(layer.tobytes() for layer in levels)


def opening(session: Session | None, names: list[str], chosen: str, can_record: bool) -> bytes:
    """What a page has to know before the first view: the checkpoints to choose from and, once one is loaded, its
    controls and frames."""
    header: dict[str, Any] = {"type": "opening", "names": names, "chosen": chosen, "can_record": can_record}
    if session is not None:
        setup = session.loaded.offer.setup
        has_real = session.loaded.real is not None
        header |= {
            "controls": session.controls,
            "real": setup.env_id if setup is not None and has_real else None,
            "shape": list(session.dreamer.model.config.frame_shape),
        }
    return encode(header)


def note(text: str, wrong: bool = False) -> bytes:
    """One sentence for whoever plays; `wrong` if something was refused."""
    return encode({"type": "note", "text": text, "wrong": wrong})
