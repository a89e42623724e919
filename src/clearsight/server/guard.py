"""What stands before every route: the key, who may ask from where, and a body bounded in bytes and in time."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clearsight.server.errors import ApiError, respond
from clearsight.server.settings import ServerSettings

# Browsers cannot send a key with a WebSocket except as the name of a protocol; OpenAI's own clients spell it so.
_KEY_PROTOCOL = b"openai-insecure-api-key."

Headers = Mapping[bytes, bytes]


class Guard:
    """ASGI middleware. The tenant's salt, by which caches are kept apart, is put in scope["state"]["salt"]."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app = app
        self.settings = settings
        self._digests = [_digest(key) for key in settings.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        try:
            headers = dict(scope["headers"])
            self._check_host(headers)
            scope.setdefault("state", {})["salt"] = self._salt(scope, headers)
            if scope["type"] == "websocket":
                self._check_origin(headers)
            else:
                receive = _replay(await self._body(headers, receive), receive)
        except ApiError as error:
            await _refuse(error, scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        """A page elsewhere may give its own name our address; its requests would then carry that name."""
        allowed = self.settings.hosts
        name = _host_name(headers.get(b"host", b"").decode("latin-1"))
        if allowed is not None and name not in allowed:
            raise ApiError(403, f"this server does not answer to the host {name[:80]!r}, but to {', '.join(allowed)}")

    def _check_origin(self, headers: Headers) -> None:
        """Browsers let any page open a WebSocket to anywhere; only our own page and the origins named may."""
        origin = headers.get(b"origin", b"").decode("latin-1")
        host = headers.get(b"host", b"").decode("latin-1")
        if origin and origin not in self.settings.origins and urlsplit(origin).netloc != host:
            raise ApiError(403, f"pages of {origin[:80]!r} may not connect here")

    def _salt(self, scope: Scope, headers: Headers) -> bytes:
        """Which tenant asks. Every key is compared in full, whatever was sent."""
        digest = hashlib.sha256(_given_key(headers)).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if self._digests and not any(matches) and not _is_open(scope):
            raise ApiError(401, "the API key is missing or unknown; send it as 'Authorization: Bearer KEY'",
                           code="invalid_api_key")  # fmt: skip
        return digest if any(matches) else b""

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        limit = self.settings.max_body_bytes
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or len(declared) > 19 or int(declared) > limit:
            raise ApiError(413, f"the request has {declared[:24].decode('latin-1')} bytes; the limit is {limit}")
        try:
            return await asyncio.wait_for(_read(receive, limit), self.settings.body_seconds)
        except asyncio.TimeoutError:
            seconds = self.settings.body_seconds
            raise ApiError(408, f"the request took longer than {seconds:g} seconds to arrive") from None


async def _refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        # Closing before accepting makes the handshake itself fail.
        await send({"type": "websocket.close", "code": 1008, "reason": error.message[:120]})
    else:
        await respond(error)(scope, receive, send)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand the body over once; afterwards only the client's leaving is to be heard."""
    replayed = False

    async def replay() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _read(receive: Receive, limit: int) -> bytes:
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ApiError(400, "the client left before its request was complete")
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limit:
            raise ApiError(413, f"the request has more than {limit} bytes")
        if not message.get("more_body"):
            return b"".join(pieces)


def _given_key(headers: Headers) -> bytes:
    kind, _, given = headers.get(b"authorization", b"").partition(b" ")
    if kind.lower() == b"bearer":
        return given.strip()
    protocols = [item.strip() for item in headers.get(b"sec-websocket-protocol", b"").split(b",")]
    return next((item[len(_KEY_PROTOCOL) :] for item in protocols if item.startswith(_KEY_PROTOCOL)), b"")


def _host_name(host: str) -> str:
    """Without the port; an IPv6 address keeps its brackets."""
    return (host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]).lower()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _is_open(scope: Scope) -> bool:
    """Health and the page itself ask for no key; all that the page then does is under /v1."""
    return scope["type"] == "http" and not scope["path"].startswith(("/v1", "/metrics", "/openapi.json"))
