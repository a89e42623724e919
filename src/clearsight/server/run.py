"""Listening: uvicorn with limits, and an orderly end."""

from __future__ import annotations

import uvicorn

from clearsight.server.app import create_app
from clearsight.server.settings import ServerSettings, check_exposure
from clearsight.vlm import VLM


def serve(vlm: VLM, settings: ServerSettings, host: str, port: int) -> None:
    """Serve until interrupted. SIGTERM and Ctrl-C let answers under way end within the grace time."""
    check_exposure(host, settings.keys)
    config = uvicorn.Config(
        create_app(vlm, settings),
        host=host,
        port=port,
        log_level="warning",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.grace_seconds) or 1,
        h11_max_incomplete_event_size=64 * 1024,
    )
    uvicorn.Server(config).run()
