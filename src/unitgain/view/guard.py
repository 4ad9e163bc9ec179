"""Who may ask the server: nothing that writes, no page of another site, and beyond this machine only who has the token.

A page of another site that a browser has open can send requests to 127.0.0.1, and, where it makes a name of its own
resolve to 127.0.0.1, read the answers. So the Host must be a name of this machine, the Origin must be the server's
own, and what the browser says of the request's site must be "same-origin" or "none".
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

COOKIE = "unitgain-view"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Any, Send], Awaitable[None]]


class Guard:
    """ASGI middleware around the pages.

    host    the address that the server is bound to
    token   what a request must show, in ?token=, a cookie or "Authorization: Bearer"; None: nothing
    """

    def __init__(self, app: App, host: str, token: str | None):
        self.app, self.token = app, token
        self.loopback = is_loopback(host)
        self.names = {"localhost", "127.0.0.1", "::1", host.lower()}
        if not self.loopback:
            self.names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        refused = self._refused(scope["method"], headers)
        if refused is not None:
            return await answer(send, *refused)
        if self.token is not None:
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if self._is_token(
                given
            ):  # once in the address, then in a cookie, so that it is in no history or log
                cookie = f"{COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Strict"
                return await answer(send, 303, "", {"location": "/", "set-cookie": cookie})
            if not self._knows(headers):
                return await answer(
                    send, 401, "Open the address that `unitgain view` printed: it has a token in it."
                )

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *encoded(HEADERS)]
            await send(message)

        await self.app(scope, receive, with_headers)

    def _refused(self, method: str, headers: dict[str, str]) -> tuple[int, str] | None:
        if method not in ("GET", "HEAD"):
            return 405, "Nothing can be changed here."
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 421, "This server does not answer to that name."
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return 403, "Only this server's own page may ask."
        # a link to the page from elsewhere may be followed; nothing may be read from there
        followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not followed:
            return 403, "Only this server's own page may ask."
        return None

    def _is_ours(self, host: str) -> bool:
        name = host_name(host)
        if name in self.names:
            return True
        return not self.loopback and _is_address(name)  # an address cannot be made to resolve to another one

    def _is_token(self, given: str) -> bool:
        assert self.token is not None
        return hmac.compare_digest(given.encode(), self.token.encode())

    def _knows(self, headers: dict[str, str]) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(given.strip()):
            return True
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return found is not None and self._is_token(found.value)


def host_name(host: str) -> str:
    """The name of a Host header, without its port.

    >>> host_name("localhost:8765"), host_name("[::1]:80"), host_name("EXAMPLE.org")
    ('localhost', '::1', 'example.org')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return (
        host.rpartition(":")[0].lower() if host.rpartition(":")[2].isdigit() and ":" in host else host.lower()
    )


def is_loopback(host: str) -> bool:
    """
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


async def answer(send: Send, status: int, text: str, headers: dict[str, str] | None = None) -> None:
    """A short answer in plain text."""
    given = {
        "content-type": "text/plain; charset=utf-8",
        "cache-control": "no-store",
        **HEADERS,
        **(headers or {}),
    }
    await send({"type": "http.response.start", "status": status, "headers": encoded(given)})
    await send({"type": "http.response.body", "body": text.encode()})
