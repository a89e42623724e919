"""What stands before every route: the key, and a body that is bounded in bytes and in time."""

from __future__ import annotations

import asyncio
import hashlib
import hmac

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clearsight.server.errors import ApiError, respond
from clearsight.server.settings import ServerSettings


class Guard:
    """ASGI middleware. The tenant's salt, by which caches are kept apart, is put in scope["state"]["salt"]."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app = app
        self.settings = settings
        self._digests = [_digest(key) for key in settings.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            scope.setdefault("state", {})["salt"] = self._salt(scope)
            body = await self._body(scope, receive)
        except ApiError as error:
            await respond(error)(scope, receive, send)
            return
        replayed = False

        async def replay() -> Message:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)

    def _salt(self, scope: Scope) -> bytes:
        """Which tenant asks. Every key is compared in full, whatever was sent."""
        headers = dict(scope["headers"])
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        digest = hashlib.sha256(given).digest() if kind.lower() == b"bearer" else b"\0" * 32
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if self._digests and not any(matches) and not _is_open(scope["path"]):
            raise ApiError(401, "the API key is missing or unknown; send it as 'Authorization: Bearer KEY'",
                           code="invalid_api_key")  # fmt: skip
        return digest if any(matches) else b""

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        limit = self.settings.max_body_bytes
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > limit:
            raise ApiError(413, f"the request has {declared.decode('latin-1')} bytes; the limit is {limit}")
        try:
            return await asyncio.wait_for(_read(receive, limit), self.settings.body_seconds)
        except asyncio.TimeoutError:
            seconds = self.settings.body_seconds
            raise ApiError(408, f"the request took longer than {seconds:g} seconds to arrive") from None


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


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _is_open(path: str) -> bool:
    """Health and the page itself ask for no key; all that the page then does is under /v1."""
    return not path.startswith(("/v1", "/metrics", "/openapi.json", "/docs"))
