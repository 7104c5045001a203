"""The server: who may speak to it, what it bounds, and that nobody waits for anybody else."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from gymnasium.error import DependencyNotInstalled
from starlette.testclient import TestClient, WebSocketDenialResponse, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from lssvwm_envs.play import wire
from lssvwm_envs.play.server import FILES, STATIC, UNSENT, Outbox, ServerConfig, bind, make_app
from lssvwm_envs.play.settings import Settings
from support.played import REAL, stage_of
from support.small_checkpoints import save_checkpoint

HOST = "127.0.0.1:8000"
ORIGIN = {"origin": f"http://{HOST}"}
TOKEN = "the-token"
SOCKET = f"ws://{HOST}/{TOKEN}/socket"


def client_of(checkpoint: str, other: str | None = None, **bounds: Any) -> TestClient:
    names = [checkpoint] if other is None else [checkpoint, other]
    config = ServerConfig(token=TOKEN, hosts=(HOST, "localhost:8000"), **bounds)
    stage = stage_of(*names, real=REAL if other is None else None)
    return TestClient(make_app(stage, Settings(denoise_steps=1), None, config), f"http://{HOST}")


def receive(socket: WebSocketTestSession, until: Callable[[dict[str, Any]], bool]) -> tuple[dict[str, Any], bytes]:
    """The first message for which it holds."""
    for _ in range(50):
        header, payload = wire.decode(socket.receive_bytes())
        if until(header):
            return header, payload
    raise AssertionError("no such message came")


def is_view(header: dict[str, Any]) -> bool:
    return header["type"] == "view"


def is_wrong(header: dict[str, Any]) -> bool:
    return bool(header.get("wrong"))


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(checkpoint):
    client = client_of(checkpoint)
    for path, name in FILES.items():
        answer = client.get(f"/{TOKEN}{path}")
        assert answer.status_code == 200 and answer.content == (STATIC / name).read_bytes()
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "no-referrer" and answer.headers["cache-control"] == "no-store"
    assert {path.name for path in STATIC.iterdir()} == set(FILES.values())
    page = (STATIC / "index.html").read_text()
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {f"/{name}" for name in named if not name.startswith("data:")} == set(FILES) - {"/"}
    code = "".join((STATIC / name).read_text() for name in FILES.values())
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", code), "nothing is loaded from elsewhere"


@pytest.mark.parametrize(
    ("path", "headers", "why"),
    [
        ("/", {}, "The token is wrong or missing"),
        ("/wrong/", {}, "The token is wrong or missing"),
        (f"/{TOKEN}x/play.js", {}, "The token is wrong or missing"),
        (f"/{TOKEN}/", {"host": "evil.example:8000"}, "answers only under the address"),
        (f"/{TOKEN}/", {"host": "127.0.0.1:8001"}, "answers only under the address"),
        (f"/{TOKEN}/", {"origin": "http://evil.example"}, "Requests of other pages are refused"),
        (f"/{TOKEN}/", {"origin": "null"}, "Requests of other pages are refused"),
    ],
)
def test_strangers_get_one_sentence(checkpoint, path, headers, why):
    answer = client_of(checkpoint).get(path, headers=headers)
    assert answer.status_code == 403 and why in answer.text and answer.text.count("\n") == 0


@pytest.mark.parametrize(
    ("address", "headers", "why"),
    [(f"ws://{HOST}/socket", ORIGIN, b"token"), (f"ws://{HOST}/wrong/socket", ORIGIN, b"token"),
     (SOCKET, {}, b"other pages"), (SOCKET, {"origin": "http://evil.example"}, b"other pages"),
     (SOCKET, {"origin": "http://127.0.0.1:9000"}, b"other pages"),
     (SOCKET.replace(HOST, "evil.example:8000"), ORIGIN, b"answers only under")],
)  # fmt: skip
def test_strangers_get_no_websocket(checkpoint, address, headers, why):
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        client_of(checkpoint).websocket_connect(address, headers=headers),
    ):
        pass
    assert refused.value.status_code == 403 and why in refused.value.content


@pytest.mark.parametrize("path", ["../server.py", "%2e%2e/server.py", "play.py", "static/play.js", "socket", ""])
def test_nothing_else_is_served(checkpoint, path):
    answer = client_of(checkpoint).get(f"/{TOKEN}/{path}")
    assert (answer.status_code == 200) == (path == "") and "import" not in answer.text


def test_a_page_plays(checkpoint):
    client = client_of(checkpoint)
    with client.websocket_connect(SOCKET, headers=ORIGIN) as socket:
        opening, _ = receive(socket, lambda header: "controls" in header)
        assert opening["real"] == REAL.env_id and opening["names"] == [checkpoint] and not opening["can_record"]
        first, payload = receive(socket, is_view)
        assert [panel["name"] for panel in first["panels"]] == ["Real", "Dream 1"] and first["done"] == 0
        sizes = [panel["shape"][0] * panel["shape"][1] * 3 + sum(a * b for a, b in panel["levels"])
                 for panel in first["panels"]]  # fmt: skip
        assert len(payload) == sum(sizes) and first["panels"][0]["levels"], "frames, then blocks of every layer"
        socket.send_json({"do": "act", "action": 2})
        view, _ = receive(socket, lambda header: is_view(header) and header["done"] == 1)
        assert view["at"] == view["last"] == 1 and view["panels"][1]["source"] == "dream"
        socket.send_json({"do": "look", "at": 0})
        view, again = receive(socket, lambda header: is_view(header) and header["done"] == 2)
        assert view["at"] == 0 and again == payload, "rewinding gives the same bytes"
        socket.send_json({"do": "save"})
        file, state = receive(socket, lambda header: header["type"] == "file")
        assert file["name"] == "state.safetensors" and len(state) > 1000
        socket.send_bytes(wire.encode({"do": "load"}, state))
        view, _ = receive(socket, lambda header: is_view(header) and header["done"] == 4)
        assert view["mode"] == "dream" and view["panels"][0]["source"] == "given"


@pytest.mark.parametrize(
    "sent",
    ["no json", "[1]", "[" * 60_000, '"' + "x" * wire.MOST_TEXT + '"', {"do": "fly"}, {"do": "act"},
     {"do": "act", "action": 99}, {"do": "look", "at": "x"}, {"do": "settings", "seed": [1]}, {"do": ["act"]},
     {"do": "open", "checkpoint": "/etc/passwd"}, {"do": "record", "on": True}, {"do": "close", "number": True},
     b"", b"\xff\xff\xff\xff", b"\x02\x00\x00\x00{", wire.encode({"do": "load"}, b"hostile"),
     wire.encode({"do": "picture"}, b"short"), b"\x02\x00\x00\x00{}" + b"x" * (wire.MOST_BYTES + 1)],
    ids=lambda sent: repr(sent)[:24],
)  # fmt: skip
def test_hostile_messages_are_refused_in_one_sentence(checkpoint, sent):
    with client_of(checkpoint).websocket_connect(SOCKET, headers=ORIGIN) as socket:
        receive(socket, is_view)
        if isinstance(sent, bytes):
            socket.send_bytes(sent)
        else:
            socket.send_text(sent) if isinstance(sent, str) else socket.send_json(sent)
        refusal, _ = receive(socket, is_wrong)
        assert "\n" not in refusal["text"] and len(refusal["text"]) < 500 and "/" not in refusal["text"]
        socket.send_json({"do": "act", "action": 0})
        receive(socket, lambda header: is_view(header) and header["last"] == 1)


def test_another_checkpoint_is_chosen(checkpoint, tmp_path):
    other = save_checkpoint(tmp_path, "box")
    with client_of(checkpoint, other).websocket_connect(SOCKET, headers=ORIGIN) as socket:
        receive(socket, is_view)
        socket.send_json({"do": "open", "checkpoint": other})
        opening, _ = receive(socket, lambda header: "controls" in header)
        assert opening["chosen"] == other and opening["controls"]["kind"] == "sliders" and opening["real"] is None
        assert receive(socket, is_view)[0]["mode"] == "dream"


def test_a_checkpoint_that_breaks_is_said_without_a_path(checkpoint, tmp_path):
    (tmp_path / "broken").mkdir()
    other = save_checkpoint(tmp_path / "broken", "discrete")
    client = client_of(checkpoint, other)
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"nothing")
    with client.websocket_connect(SOCKET, headers=ORIGIN) as socket:
        receive(socket, is_view)
        socket.send_json({"do": "open", "checkpoint": other})
        refusal, _ = receive(socket, is_wrong)
        assert refusal["text"] == f"{other} cannot be loaded; the terminal says why."
        socket.send_json({"do": "act", "action": 0})
        assert receive(socket, lambda header: is_view(header) and header["last"] == 1)


def test_sessions_are_bounded_and_freed(checkpoint):
    client = client_of(checkpoint, sessions=1)
    with client, client.websocket_connect(SOCKET, headers=ORIGIN) as first:
        receive(first, is_view)
        with client.websocket_connect(SOCKET, headers=ORIGIN) as second:
            refusal, _ = receive(second, is_wrong)
            assert "1 sessions are played already" in refusal["text"]
            with pytest.raises(WebSocketDisconnect) as closed:
                second.receive_bytes()
            assert closed.value.code == 1013
        first.close()
        for _ in range(100):
            with client.websocket_connect(SOCKET, headers=ORIGIN) as third:
                header, _ = wire.decode(third.receive_bytes())
                if header["type"] == "opening":
                    return
            time.sleep(0.1)
        raise AssertionError("the session was not freed")


def test_idle_sessions_end(checkpoint):
    with client_of(checkpoint, idle_seconds=0.5).websocket_connect(SOCKET, headers=ORIGIN) as socket:
        said, _ = receive(socket, is_wrong)
        assert "Nothing was played for a long time" in said["text"]
        with pytest.raises(WebSocketDisconnect):
            socket.receive_bytes()


class Page:
    """The sending half of a websocket whose page reads nothing until it is let."""

    def __init__(self):
        self.sent: list[bytes] = []
        self.reads = asyncio.Event()

    async def send_bytes(self, message: bytes) -> None:
        self.sent.append(message)
        await self.reads.wait()


def test_slow_pages_are_sent_the_newest_view_and_every_message():
    async def run() -> tuple[list[bytes], bool]:
        page, outbox = Page(), Outbox(asyncio.get_running_loop())
        sending = asyncio.create_task(outbox.sending(page))
        for number in range(100):
            outbox.show(b"view %d" % number)
            await asyncio.sleep(0)
        outbox.send(b"file")
        await asyncio.sleep(0)
        page.reads.set()
        for _ in range(20):
            await asyncio.sleep(0)
        page.reads.clear()
        for _ in range(UNSENT + 2):
            outbox.send(b"more")
        page.reads.set()
        await asyncio.wait_for(sending, 5)  # it is let go
        return page.sent, sending.done()

    sent, done = asyncio.run(run())
    views = [message for message in sent if message.startswith(b"view")]
    assert done and len(views) <= 3 and views[-1] == b"view 99" and b"file" in sent


def test_a_port_in_use_is_one_sentence():
    with bind(0) as bound:
        with pytest.raises(ValueError, match=r"Port \d+ is in use; choose another --port"):
            bind(bound.getsockname()[1])
        assert bound.getsockname()[0] == "127.0.0.1"
    with pytest.raises(ValueError, match="There is no port 70000"):
        bind(70000)


def test_a_missing_extra_is_one_sentence(checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with pytest.raises(DependencyNotInstalled, match=r"pip install lssvwm-rl\[play\]"):
        client_of(checkpoint)
