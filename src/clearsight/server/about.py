"""What the server says about itself: models, health, metrics; and what it has not."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from clearsight.server.errors import ApiError
from clearsight.server.service import Service


def about_routes(service: Service) -> APIRouter:
    router = APIRouter()
    started = int(time.time())

    def model(name: str) -> dict[str, Any]:
        context = service.vlm.engine.capacity
        return {"id": name, "object": "model", "created": started, "owned_by": "clearsight", "context_length": context}

    @router.get("/health")
    async def health() -> Response:
        """Whether requests are taken."""
        return JSONResponse({"status": "ok"})

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counts and times for Prometheus."""
        text = service.metrics.render(service.engine.stats(), service.in_flight)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    @router.get("/v1/models")
    async def models() -> Response:
        """What is served."""
        return JSONResponse({"object": "list", "data": [model(name) for name in service.models]})

    @router.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Response:
        """One of the models served."""
        service.check_model(name)
        return JSONResponse(model(name))

    @router.post("/v1/embeddings")
    async def embeddings() -> Response:
        """Refused: these models write text."""
        raise ApiError(404, "this server has no embedding model; it serves chat and completions", code="unsupported")

    return router
