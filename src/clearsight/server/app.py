"""The application: routes from a module each, and the guard before them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, Depends, FastAPI
from fastapi.security import HTTPBearer
from starlette.middleware.cors import CORSMiddleware

from clearsight.server import errors
from clearsight.server.about import about_routes
from clearsight.server.chat import chat_routes
from clearsight.server.completions import completion_routes
from clearsight.server.count import count_routes
from clearsight.server.guard import Guard
from clearsight.server.realtime import realtime_routes
from clearsight.server.responses import response_routes
from clearsight.server.service import Service
from clearsight.server.settings import ServerSettings
from clearsight.server.static import page_routes
from clearsight.vlm import VLM

ROUTES: tuple[Callable[[Service], APIRouter], ...] = (
    chat_routes,
    completion_routes,
    response_routes,
    count_routes,
    about_routes,
    realtime_routes,
    page_routes,
)
"""Each is given the service and returns its routes; the page's come last, for they take any single name."""


def create_app(vlm: VLM, settings: ServerSettings = ServerSettings()) -> FastAPI:
    """An ASGI application that serves `vlm`. Its pictures are decoded in processes of their own.

    `app.state.close()` ends it: answers under way get the grace time, then an error.
    """
    service = Service(vlm, settings)
    vlm.processor.guard_pictures = True

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()
        vlm.processor.sandbox.close()

    app = FastAPI(
        title="Clearsight",
        version=version("clearsight"),
        lifespan=lifespan,
        redoc_url=None,
        docs_url=None,
        responses={"4XX": {"model": errors.ErrorBody, "description": "A refusal, in one sentence"}},
        # The guard checks the key; this only says so in the document.
        dependencies=[Depends(HTTPBearer(auto_error=False, description="An API key, where the server has any"))],
    )
    app.state.close = service.close
    errors.install(app)
    for routes in ROUTES:
        app.include_router(routes(service))
    app.add_middleware(Guard, settings=settings)
    if settings.origins:
        # Outermost: a browser asks without a key whether it may ask.
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.origins, allow_methods=("*",), allow_headers=("*",)
        )  # fmt: skip
    return app
