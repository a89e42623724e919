"""A real server on a real port, in a thread of the test process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import uvicorn

from clearsight.engine import EngineSettings
from clearsight.media import MediaLimits
from clearsight.server import ServerSettings, create_app
from clearsight.vlm import VLM

CLOSED = MediaLimits(allow_files=False, allow_remote=False)


@contextlib.contextmanager
def running(
    settings: ServerSettings, engine: EngineSettings = EngineSettings(), media: MediaLimits = CLOSED
) -> Iterator[str]:
    """Its address, while it runs."""
    vlm = VLM.load("nano", settings=engine, media_limits=media)
    config = uvicorn.Config(create_app(vlm, settings), port=0, log_level="error", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
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
