"""/v1/count: what a chat request would cost, before it is paid for."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from clearsight.processor import Count
from clearsight.server import render, translate
from clearsight.server.schema import CountRequest
from clearsight.server.service import Service


def count_routes(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/count")
    async def count(body: CountRequest) -> Response:
        """Tokens, sizes, frames and memory of a chat request, read from headers: no picture is decoded."""

        def look() -> Count:
            return service.vlm.processor.count(
                translate.messages(body.messages, service.settings),
                tools=() if body.tool_choice == "none" else body.tools or (),
                tool_format=body.tool_format or "hermes",
                add_vision_id=body.add_vision_id,
            )

        service.check(body)
        async with service.admitted():
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
