"""The application: routes, the guard before them and the page beside them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from clearsight.processor import Count
from clearsight.server import errors, render, translate
from clearsight.server.chat import chat_routes
from clearsight.server.errors import ApiError
from clearsight.server.guard import Guard
from clearsight.server.responses import response_routes
from clearsight.server.schema import CountRequest
from clearsight.server.service import Service
from clearsight.server.settings import ServerSettings
from clearsight.vlm import VLM

PAGE = Path(__file__).parent / "page"

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "style-src 'self'; script-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def create_app(vlm: VLM, settings: ServerSettings = ServerSettings()) -> FastAPI:
    """An ASGI application that serves `vlm`. Its pictures are decoded in processes of their own."""
    service = Service(vlm, settings)
    vlm.processor.guard_pictures = True

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.engine.close(settings.grace_seconds)
        vlm.processor.sandbox.close()

    app = FastAPI(title="Clearsight", version=version("clearsight"), lifespan=lifespan, redoc_url=None, docs_url=None)
    errors.install(app)
    app.include_router(chat_routes(service))
    app.include_router(response_routes(service))
    app.include_router(_other_routes(service))
    if (PAGE / "index.html").is_file():
        app.mount("/", _Page(directory=PAGE, html=True))
    app.add_middleware(Guard, settings=settings)
    return app


class _Page(StaticFiles):
    """The page's files, which may load nothing from elsewhere."""

    async def get_response(self, path: str, scope: Any) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


def _other_routes(service: Service) -> APIRouter:
    router = APIRouter()
    started = int(time.time())

    def model(name: str) -> dict[str, Any]:
        context = service.vlm.engine.capacity
        return {"id": name, "object": "model", "created": started, "owned_by": "clearsight", "context_length": context}

    @router.get("/health")
    async def health() -> Response:
        """Whether requests are taken."""
        return JSONResponse({"status": "ok"})

    @router.get("/metrics")
    async def metrics() -> Response:
        """Counts and times for Prometheus."""
        return PlainTextResponse(service.metrics.render(service.engine.stats()), media_type="text/plain; version=0.0.4")

    @router.get("/v1/models")
    async def models() -> Response:
        """What is served."""
        return JSONResponse({"object": "list", "data": [model(name) for name in service.settings.names]})

    @router.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Response:
        """One of the models served."""
        service.check_model(name)
        return JSONResponse(model(name))

    @router.post("/v1/embeddings")
    async def embeddings() -> Response:
        """Refused: these models write text."""
        raise ApiError(404, "this server has no embedding model; it serves chat and completions", code="unsupported")

    @router.post("/v1/count")
    async def count(body: CountRequest, request: Request) -> Response:
        """Tokens, sizes and memory of a chat request, read from headers before anything is paid for."""

        def look() -> Count:
            return service.vlm.processor.count(
                translate.messages(body.messages, service.settings),
                tools=body.tools or (),
                tool_format=body.tool_format or "hermes",
                add_vision_id=body.add_vision_id,
            )

        counted = await service.prepare(look)
        engine = service.vlm.engine
        return JSONResponse(
            {
                "tokens": counted.tokens,
                "context": engine.capacity,
                "fits": counted.tokens < engine.capacity,
                "kv_bytes": engine.kv_bytes(counted.tokens),
                "media": render.media(counted.media),
            }
        )

    return router
