"""/v1/responses: the same answers in OpenAI's newer form, with a bounded memory of earlier ones."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from clearsight.answer import Reply
from clearsight.messages import ToolCall
from clearsight.server import render, translate
from clearsight.server.chat import STREAMS, streaming
from clearsight.server.errors import ApiError
from clearsight.server.schema import ResponsesRequest
from clearsight.server.service import Service
from clearsight.server.store import ResponseStore
from clearsight.vlm import Turn


def response_routes(service: Service) -> APIRouter:
    """Create, read and delete responses."""
    router = APIRouter()
    store = ResponseStore(service.settings.stored_responses, service.settings.stored_bytes)

    @router.post("/v1/responses", responses=STREAMS)
    async def create(body: ResponsesRequest, request: Request) -> Response:
        """Answer `input`, after the conversation of `previous_response_id` if given."""
        adapter = service.check(body)
        salt: bytes = request.state.salt
        earlier = _earlier(store, salt, body.previous_response_id)
        messages: list[dict[str, Any]] = []

        def start() -> Turn:
            # Instructions hold for this response alone, so they are not remembered with the conversation.
            new = translate.response_messages(body.input, None, service.settings)
            messages.extend([*earlier, *new])
            system = [{"role": "system", "content": body.instructions}] if body.instructions else []
            params = translate.sampling(body, service.vlm.default_sampling, service.settings)
            options = translate.response_options(body)
            return service.vlm.start([*system, *messages], params, salt=salt, adapter=adapter, **options)

        async with AsyncExitStack() as stack:
            await stack.enter_async_context(service.admitted())
            turn = await service.prepare(start)
            draft = _draft(body)

            def finish(reply: Reply, output: list[dict[str, Any]]) -> dict[str, Any]:
                done = _completed(draft, reply, output)
                if body.store is not False:
                    store.put(salt, done, [*messages, render.chat_message(reply)])
                return done

            if body.stream:
                return await streaming(service, request, stack, _stream(service, turn, draft, finish))
            await service.while_connected(request, service.answer(turn))
            reply = turn.reader.reply
            return JSONResponse(finish(reply, _output(reply)))

    @router.get("/v1/responses/{name}")
    async def read(name: str, request: Request) -> Response:
        """A response that is still remembered."""
        return JSONResponse(_stored(store, request.state.salt, name).body)

    @router.delete("/v1/responses/{name}")
    async def delete(name: str, request: Request) -> Response:
        """Forget a response."""
        _stored(store, request.state.salt, name)
        store.delete(request.state.salt, name)
        return JSONResponse({"id": name, "object": "response", "deleted": True})

    return router


def _earlier(store: ResponseStore, salt: bytes, name: str | None) -> list[dict[str, Any]]:
    return [] if name is None else _stored(store, salt, name).messages


def _stored(store: ResponseStore, salt: bytes, name: str) -> Any:
    found = store.get(salt, name)
    if found is None:
        raise ApiError(404, f"there is no response {name[:80]!r} here (any more)", param="previous_response_id")
    return found


def _draft(body: ResponsesRequest) -> dict[str, Any]:
    return {
        "id": f"resp_{secrets.token_hex(16)}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "model": body.model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "max_output_tokens": body.max_output_tokens,
        "text": body.text or {"format": {"type": "text"}},
        "tool_choice": body.tool_choice or "auto",
        "tools": body.tools or [],
        "metadata": body.metadata or {},
        "store": body.store is not False,
        "usage": None,
    }


def _completed(draft: dict[str, Any], reply: Reply, output: list[dict[str, Any]]) -> dict[str, Any]:
    cut = render.finish_reason(reply) == "length"
    usage = {
        "input_tokens": reply.usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": reply.usage.cached_tokens},
        "output_tokens": reply.usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": reply.usage.total_tokens,
    }
    return {
        **draft,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": output,
        "usage": usage,
        "media": render.media(reply.media),
    }


def _output(reply: Reply) -> list[dict[str, Any]]:
    items = [_message(reply)] if reply.text or not reply.tool_calls else []
    return items + [_call(call) for call in reply.tool_calls]


def _message(reply: Reply, name: str | None = None) -> dict[str, Any]:
    notes = [render.annotation(item) for item in reply.annotations]
    logprobs = [render.token_logprob(item) for item in reply.logprobs]
    content = [{"type": "output_text", "text": reply.text, "annotations": notes, "logprobs": logprobs}]
    return {**_item("message", name), "role": "assistant", "content": content}


def _call(call: ToolCall) -> dict[str, Any]:
    return {**_item("function_call"), "call_id": call.id, "name": call.name, "arguments": call.arguments}


def _item(kind: str, name: str | None = None, status: str = "completed") -> dict[str, Any]:
    prefix = {"message": "msg", "function_call": "fc"}[kind]
    return {"id": name or f"{prefix}_{secrets.token_hex(12)}", "type": kind, "status": status}


async def _stream(service: Service, turn: Turn, draft: dict[str, Any], finish: Any) -> AsyncGenerator[str, None]:
    """The events that the official client assembles into a response."""
    numbers = itertools.count()
    output: list[dict[str, Any]] = []
    message: str | None = None

    def send(kind: str, **rest: Any) -> str:
        return render.event({"type": kind, "sequence_number": next(numbers), **rest}, kind)

    # The first delta is awaited before anything is sent, so that a refusal keeps its status.
    deltas = service.deltas(turn)
    delta = await anext(deltas, None)
    yield send("response.created", response=draft)
    yield send("response.in_progress", response=draft)
    while delta is not None:
        if delta.text:
            if message is None:
                message = f"msg_{secrets.token_hex(12)}"
                output.append({"id": message})
                opened = {**_item("message", message, "in_progress"), "role": "assistant", "content": []}
                place = {"item_id": message, "output_index": len(output) - 1, "content_index": 0}
                part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
                yield send("response.output_item.added", output_index=len(output) - 1, item=opened)
                yield send("response.content_part.added", **place, part=part)
            yield send("response.output_text.delta", **place, delta=delta.text, logprobs=[])
        if delta.tool_call is not None:
            item = _call(delta.tool_call)
            output.append(item)
            where = {"item_id": item["id"], "output_index": len(output) - 1}
            started = {**item, "status": "in_progress", "arguments": ""}
            yield send("response.output_item.added", output_index=len(output) - 1, item=started)
            yield send("response.function_call_arguments.delta", **where, delta=item["arguments"])
            yield send("response.function_call_arguments.done", **where, arguments=item["arguments"], name=item["name"])
            yield send("response.output_item.done", output_index=len(output) - 1, item=item)
        delta = await anext(deltas, None)
    reply = turn.reader.reply
    if message is not None:
        index = next(at for at, item in enumerate(output) if item["id"] == message)
        output[index] = _message(reply, message)
        place = {"item_id": message, "output_index": index, "content_index": 0}
        yield send("response.output_text.done", **place, text=reply.text, logprobs=[])
        yield send("response.content_part.done", **place, part=output[index]["content"][0])
        yield send("response.output_item.done", output_index=index, item=output[index])
    done = finish(reply, output or _output(reply))
    kind = "response.incomplete" if done["status"] == "incomplete" else "response.completed"
    yield send(kind, response=done)
