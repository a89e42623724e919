"""/v1/completions: plain text continued, without any chat format."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from clearsight.server import render, translate
from clearsight.server.chat import STREAMS, answers, head, merged, streaming
from clearsight.server.schema import CompletionRequest
from clearsight.server.service import Service
from clearsight.vlm import Turn


def completion_routes(service: Service) -> APIRouter:
    """The route of plain text."""
    router = APIRouter()

    @router.post("/v1/completions", responses=STREAMS)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Continue plain text."""
        adapter = service.check(body)
        salt: bytes = request.state.salt

        def start() -> list[Turn]:
            params = translate.sampling(body, service.vlm.default_sampling, service.settings)
            prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
            numbers = range(body.n or 1)
            seeds = [
                params if params.seed is None else replace(params, seed=(params.seed + i) % 2**63) for i in numbers
            ]
            return [
                service.vlm.start_text(prompt, seed, salt=salt, adapter=adapter) for prompt in prompts for seed in seeds
            ]

        async with AsyncExitStack() as stack:
            await stack.enter_async_context(service.admitted())
            turns = await service.prepare(start)
            opening = {**head("cmpl", body.model), "object": "text_completion"}
            if body.stream:
                return await streaming(service, request, stack, _completion_stream(service, body, turns, opening))
            await service.while_connected(request, answers(service, turns))
            replies = [turn.reader.reply for turn in turns]
            with_logprobs = body.logprobs is not None
            choices = [
                render.completion_choice(
                    index, reply.text, render.finish_reason(reply), reply.logprobs if with_logprobs else None
                )
                for index, reply in enumerate(replies)
            ]
            total = render.usage([reply.usage for reply in replies])
            return JSONResponse({**opening, "choices": choices, "usage": total})

    return router


async def _completion_stream(
    service: Service, body: CompletionRequest, turns: list[Turn], head: dict[str, Any]
) -> AsyncGenerator[str, None]:
    async for index, delta in merged(service, turns):
        if delta is None:
            choice = render.completion_choice(index, "", render.finish_reason(turns[index].reader.reply))
        else:
            choice = render.completion_choice(index, delta.text, None, delta.tokens or None)
        yield render.event({**head, "choices": [choice]})
    if body.stream_options is not None and body.stream_options.include_usage:
        total = render.usage([turn.reader.reply.usage for turn in turns])
        yield render.event({**head, "choices": [], "usage": total})
    yield render.event("[DONE]")
