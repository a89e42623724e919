"""Listening: uvicorn with limits of time on every connection, and an orderly end."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from clearsight.server.app import create_app
from clearsight.server.settings import ServerSettings, check_exposure
from clearsight.vlm import VLM

_AFTER_GRACE = 5  # seconds for streams to say that they end


def serve(vlm: VLM, settings: ServerSettings, host: str, port: int) -> None:
    """Serve until interrupted. SIGTERM and Ctrl-C let answers under way end within the grace time."""
    check_exposure(host, settings.keys)
    server_for(create_app(vlm, settings), settings, host, port).run()


def server_for(app: FastAPI, settings: ServerSettings, host: str, port: int) -> uvicorn.Server:
    """A server that bounds how long a connection may take for the head of a request."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="error",
        http=_protocol(settings.header_seconds, settings.send_seconds),
        ws="websockets-sansio",
        ws_max_size=2 * settings.live_frame_bytes,  # a frame may come as base64
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.grace_seconds) + _AFTER_GRACE,
        h11_max_incomplete_event_size=64 * 1024,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the engine at once, not after the connections: streams past the grace time then end with an error."""
        closing = asyncio.create_task(self.config.app.state.close())  # type: ignore[union-attr]
        await super().shutdown(sockets)
        await closing


def _protocol(header_seconds: float, send_seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's HTTP/1.1, which by itself would wait for ever for the head of a request or a client that reads."""

    class Bounded(H11Protocol):
        stalled: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch(None)

        def _watch(self, before: tuple[object] | None) -> None:
            """Close a connection that has spent a whole period before the head of the same request."""
            if self.transport.is_closing():
                return
            waiting = self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None
            if waiting and before is not None and before[0] is self.cycle:
                self.transport.close()
            else:
                self.loop.call_later(header_seconds, self._watch, (self.cycle,) if waiting else None)

        def pause_writing(self) -> None:
            # Closing would wait for the client to read what is left; to abort frees all its answer holds.
            self.stalled = self.loop.call_later(send_seconds, self.transport.abort)
            super().pause_writing()

        def resume_writing(self) -> None:
            if self.stalled is not None:
                self.stalled.cancel()
            super().resume_writing()

    return Bounded
