"""Guards: who may speak to the server. A token in every address, the Host and the Origin that browsers send."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Scope = dict[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """ASGI middleware that lets only those through who know the token, on this machine, from this page.

    Addresses are http://HOST/TOKEN/..., so that whatever the page asks for has the token in it, and no cookie is needed
    that other servers of this machine would be sent. A page of another site that a browser shows can neither guess the
    token nor name another Host (DNS rebinding), and its Origin is refused.

    Args:
        app: sees paths without the token.
        token: random text.
        hosts: values of Host that are this server's, "127.0.0.1:8000".
    """

    def __init__(self, app: App, token: str, hosts: tuple[str, ...]):
        self._app, self._token = app, token.encode()
        self._hosts = {host.encode() for host in hosts}
        self._origins = {b"http://" + host for host in self._hosts}

    async def __call__(
        self, scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Pass on, or refuse with 403 and one sentence."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        why, path = self._refused(scope)
        if why is None:
            await self._app({**scope, "path": path, "raw_path": path.encode()}, receive, with_headers(send))
        else:
            await refuse(scope, send, 403, why)

    def _refused(self, scope: Scope) -> tuple[str | None, str]:
        """Why a request is refused, None if it is not; and its path without the token."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        hosts = [value for name, value in headers if name == b"host"]
        origins = [value for name, value in headers if name == b"origin"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return "This server answers only under the address that `lssvwm play` printed.", ""
        if any(origin not in self._origins for origin in origins) or (scope["type"] == "websocket" and not origins):
            return "Requests of other pages are refused; open the address that `lssvwm play` printed.", ""
        _, token, path = (*scope["path"].split("/", 2), "", "")[:3]
        if not secrets.compare_digest(token.encode(), self._token):
            return "The token is wrong or missing; open the address that `lssvwm play` printed.", ""
        return None, f"/{path}"


def with_headers(send: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    """`send` that adds what tells browsers to keep the page to itself."""

    async def sent(message: Any) -> None:
        if message["type"] == "http.response.start":
            added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return sent


async def refuse(scope: Mapping[str, Any], send: Callable[[Any], Awaitable[None]], status: int, why: str) -> None:
    """Answer with a status and one sentence; a websocket is not even opened."""
    kind, body = ("websocket.http.response" if scope["type"] == "websocket" else "http.response"), why.encode()
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": why})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await with_headers(send)({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
