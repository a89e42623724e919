"""The page: a handful of files, which may load nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from clearsight.server.errors import ApiError
from clearsight.server.service import Service

PAGE = Path(__file__).parent / "page"

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "style-src 'self'; script-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
# Spelled out, because a machine's own table may know no modules and refuse to run the page.
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def page_routes(_: Service) -> APIRouter:
    """The page at / and its files beside it; every path with more than one step belongs to the API."""
    router = APIRouter(include_in_schema=False)
    files = {path.name: path for path in PAGE.iterdir() if path.suffix in _TYPES}

    @router.get("/")
    async def index() -> Response:
        return _file(files["index.html"])

    @router.get("/{name}")
    async def file(name: str) -> Response:
        if name not in files:
            raise ApiError(404, f"there is no {name[:80]!r} here")
        return _file(files[name])

    return router


def _file(path: Path) -> Response:
    return FileResponse(path, headers=_HEADERS, media_type=_TYPES[path.suffix])
