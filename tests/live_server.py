"""A real server on a real port, in a thread of the test process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from fastapi import FastAPI

from clearsight.engine import EngineSettings
from clearsight.media import MediaLimits
from clearsight.server import ServerSettings, create_app
from clearsight.server.run import server_for
from clearsight.vlm import VLM

CLOSED = MediaLimits(allow_files=False, allow_remote=False)


@contextlib.contextmanager
def running(
    settings: ServerSettings,
    engine: EngineSettings = EngineSettings(),
    media: MediaLimits = CLOSED,
    adapters: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[str]:
    """Its address, while it runs."""
    vlm = VLM.load("nano", settings=engine, media_limits=media, adapters=adapters)
    settings = replace(settings, grace_seconds=min(settings.grace_seconds, 1.0))
    with listening(create_app(vlm, settings), settings) as address:
        yield address


@contextlib.contextmanager
def listening(app: FastAPI, settings: ServerSettings) -> Iterator[str]:
    """The address of an application, while it runs."""
    server = server_for(app, settings, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
