"""/v1/chat/completions: parse, start, render; and what other kinds of answers share with it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from clearsight.answer import Delta
from clearsight.server import render, translate
from clearsight.server.errors import ApiError, error_body
from clearsight.server.schema import ChatRequest
from clearsight.server.service import Service
from clearsight.vlm import Turn

STREAMS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer, whole or as events", "content": {"application/json": {}, "text/event-stream": {}}}
}


def chat_routes(service: Service) -> APIRouter:
    """The route of conversations."""
    router = APIRouter()

    @router.post("/v1/chat/completions", responses=STREAMS)
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation with pictures, as one body or as a stream of server-sent events."""
        adapter = service.check(body)
        salt: bytes = request.state.salt

        def start() -> list[Turn]:
            settings = service.settings
            params = translate.sampling(body, service.vlm.default_sampling, settings)
            messages = translate.messages(body.messages, settings)
            options = translate.start_options(body)
            return service.vlm.start_several(body.n or 1, messages, params, salt=salt, adapter=adapter, **options)

        async with AsyncExitStack() as stack:
            await stack.enter_async_context(service.admitted())
            turns = await service.prepare(start)
            opening = head("chatcmpl", body.model)
            if body.stream:
                return await streaming(service, request, stack, _chat_stream(service, body, turns, opening))
            await service.while_connected(request, answers(service, turns))
            replies = [turn.reader.reply for turn in turns]
            return JSONResponse(render.chat_completion(opening, replies, bool(body.logprobs)))

    return router


class _Held(StreamingResponse):
    """Server-sent events that let go of what they hold however they end, also before they begin."""

    def __init__(self, held: AsyncExitStack, events: AsyncIterator[str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


async def streaming(
    service: Service, request: Request, stack: AsyncExitStack, events: AsyncGenerator[str, None]
) -> Response:
    """A stream that takes over what `stack` holds. Its first event is awaited, so that a refusal keeps its status."""
    stack.push_async_callback(events.aclose)
    first = await service.while_connected(request, anext(events))

    async def body() -> AsyncIterator[str]:
        yield first
        try:
            async for event in events:
                yield event
        except ApiError as error:
            yield render.event(error_body(error.status, error.message, error.param, error.code))

    return _Held(stack.pop_all(), body())


async def merged(service: Service, turns: list[Turn]) -> AsyncIterator[tuple[int, Delta | None]]:
    """The deltas of several answers as they come, with their numbers; None where one has ended."""
    inbox: asyncio.Queue[tuple[int, Delta | BaseException | None]] = asyncio.Queue()

    async def read(index: int, turn: Turn) -> None:
        try:
            async for delta in service.deltas(turn):
                inbox.put_nowait((index, delta))
            inbox.put_nowait((index, None))
        except Exception as error:
            inbox.put_nowait((index, error))

    tasks = [asyncio.create_task(read(index, turn)) for index, turn in enumerate(turns)]
    try:
        open_answers = len(turns)
        while open_answers:
            index, item = await inbox.get()
            if isinstance(item, BaseException):
                raise item
            open_answers -= item is None
            yield index, item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def answers(service: Service, turns: list[Turn]) -> None:
    tasks = [asyncio.create_task(service.answer(turn)) for turn in turns]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _chat_stream(
    service: Service, body: ChatRequest, turns: list[Turn], head: dict[str, Any]
) -> AsyncGenerator[str, None]:
    roles = [render.chat_chunk(head, index, {"role": "assistant", "content": ""}) for index in range(len(turns))]
    opened = False
    async for index, delta in merged(service, turns):
        if not opened:
            for role in roles:
                yield render.event(role)
            opened = True
        if delta is not None:
            content, logprobs = render.chat_delta(delta)
            yield render.event(render.chat_chunk(head, index, content, None, logprobs))
            continue
        reply = turns[index].reader.reply
        notes = [render.annotation(item) for item in reply.annotations]
        last = {"annotations": notes} if notes else {}
        yield render.event(render.chat_chunk(head, index, last, render.finish_reason(reply)))
    if body.stream_options is not None and body.stream_options.include_usage:
        total = render.usage([turn.reader.reply.usage for turn in turns])
        last_chunk = {**head, "object": "chat.completion.chunk", "choices": [], "usage": total}
        yield render.event({**last_chunk, "media": render.media(turns[0].prepared.media)})
    yield render.event("[DONE]")


def head(prefix: str, model: str) -> dict[str, Any]:
    return {"id": f"{prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
