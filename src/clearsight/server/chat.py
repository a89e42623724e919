"""/v1/chat/completions and /v1/completions: parse, start, render."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from clearsight.answer import Delta
from clearsight.server import render, translate
from clearsight.server.errors import ApiError, error_body
from clearsight.server.schema import ChatRequest, CompletionRequest, Generated
from clearsight.server.service import Service
from clearsight.vlm import Turn


def chat_routes(service: Service) -> APIRouter:
    """The routes of conversations and of plain text."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation with pictures, as one body or as a stream of server-sent events."""
        service.check_model(body.model)
        check_n(service, body)
        salt: bytes = request.state.salt

        def start() -> list[Turn]:
            settings = service.settings
            params = translate.sampling(body, service.vlm.default_sampling, settings)
            messages = translate.messages(body.messages, settings)
            options = translate.start_options(body)
            return service.vlm.start_several(body.n or 1, messages, params, salt=salt, **options)

        async with AsyncExitStack() as stack:
            await stack.enter_async_context(service.admitted())
            turns = await service.prepare(start)
            head = _head("chatcmpl", body.model)
            if body.stream:
                return await streaming(stack, _chat_stream(service, body, turns, head))
            await service.while_connected(request, _answers(service, turns))
            replies = [turn.reader.reply for turn in turns]
            return JSONResponse(render.chat_completion(head, replies, bool(body.logprobs)))

    @router.post("/v1/completions")
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Continue plain text."""
        service.check_model(body.model)
        check_n(service, body)
        salt: bytes = request.state.salt

        def start() -> list[Turn]:
            params = translate.sampling(body, service.vlm.default_sampling, service.settings)
            prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
            numbers = range(body.n or 1)
            seeds = [
                params if params.seed is None else replace(params, seed=(params.seed + i) % 2**63) for i in numbers
            ]
            return [service.vlm.start_text(prompt, seed, salt=salt) for prompt in prompts for seed in seeds]

        async with AsyncExitStack() as stack:
            await stack.enter_async_context(service.admitted())
            turns = await service.prepare(start)
            head = {**_head("cmpl", body.model), "object": "text_completion"}
            if body.stream:
                return await streaming(stack, _completion_stream(service, body, turns, head))
            await service.while_connected(request, _answers(service, turns))
            replies = [turn.reader.reply for turn in turns]
            choices = [
                render.completion_choice(index, reply.text, render.finish_reason(reply), reply.logprobs)
                for index, reply in enumerate(replies)
            ]
            total = render.usage([reply.usage for reply in replies])
            return JSONResponse({**head, "choices": choices, "usage": total})

    return router


def check_n(service: Service, body: Generated) -> None:
    if (body.n or 1) > service.settings.max_n:
        raise ApiError(400, f"n is {body.n}; the limit is {service.settings.max_n}", param="n")


async def streaming(stack: AsyncExitStack, events: AsyncIterator[str]) -> Response:
    """A stream that takes over what `stack` holds. Its first event is awaited, so that a refusal keeps its status."""
    first = await anext(events)
    held = stack.pop_all()

    async def body() -> AsyncIterator[str]:
        async with held:
            yield first
            try:
                async for event in events:
                    yield event
            except ApiError as error:
                yield render.event(error_body(error.status, error.message, error.param, error.code))

    return StreamingResponse(body(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


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


async def _answers(service: Service, turns: list[Turn]) -> None:
    tasks = [asyncio.create_task(service.answer(turn)) for turn in turns]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _chat_stream(
    service: Service, body: ChatRequest, turns: list[Turn], head: dict[str, Any]
) -> AsyncIterator[str]:
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


async def _completion_stream(
    service: Service, body: CompletionRequest, turns: list[Turn], head: dict[str, Any]
) -> AsyncIterator[str]:
    async for index, delta in merged(service, turns):
        if delta is None:
            choice = render.completion_choice(index, "", render.finish_reason(turns[index].reader.reply), ())
        else:
            choice = render.completion_choice(index, delta.text, None, delta.tokens)
        yield render.event({**head, "choices": [choice]})
    if body.stream_options is not None and body.stream_options.include_usage:
        total = render.usage([turn.reader.reply.usage for turn in turns])
        yield render.event({**head, "choices": [], "usage": total})
    yield render.event("[DONE]")


def _head(prefix: str, model: str) -> dict[str, Any]:
    return {"id": f"{prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
