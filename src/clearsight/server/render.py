"""Replies and deltas in the OpenAI protocol's shapes. Pure functions, also used by batch files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from clearsight.answer import Delta, Reply, TokenLogprob, Usage
from clearsight.messages import ToolCall
from clearsight.processor import MediaUse
from clearsight.processor.grounding import Annotation

# The protocol has no word for an answer that goes round in circles; to a client it is one cut short.
_REASONS = {"repetition": "length"}


def finish_reason(reply: Reply) -> str:
    return _REASONS.get(reply.finish_reason, reply.finish_reason)


def usage(usages: Sequence[Usage]) -> dict[str, Any]:
    """Of all answers to one prompt together; the prompt is counted once, as the first found it."""
    prompt, made = usages[0].prompt_tokens, sum(item.completion_tokens for item in usages)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
        "prompt_tokens_details": {"cached_tokens": usages[0].cached_tokens},
    }


def annotation(item: Annotation) -> dict[str, Any]:
    """A box as data: `box` or `point` in source pixels of picture number `image`, `relative` in thousandths."""
    return {
        "type": item.kind,
        "label": item.label,
        "image": item.image,
        item.kind: list(item.pixels),
        "relative": list(item.relative),
    }


def media(uses: Sequence[MediaUse]) -> list[dict[str, Any]]:
    return [use.data() for use in uses]


def tool_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def token_logprob(item: TokenLogprob) -> dict[str, Any]:
    def one(raw: bytes, logprob: float) -> dict[str, Any]:
        return {"token": raw.decode("utf-8", "replace"), "logprob": _finite(logprob), "bytes": list(raw)}

    return {**one(item.raw, item.logprob), "top_logprobs": [one(*pair) for pair in item.top]}


def _finite(logprob: float) -> float:
    """JSON has no infinity; the protocol's stand-in for a token that could not be is -9999."""
    return max(logprob, -9999.0)


def chat_message(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
    if reply.tool_calls:
        message["content"] = reply.text or None
        message["tool_calls"] = [tool_call(call) for call in reply.tool_calls]
    message["annotations"] = [annotation(item) for item in reply.annotations]
    return message


def chat_completion(head: dict[str, Any], replies: Sequence[Reply], with_logprobs: bool) -> dict[str, Any]:
    choices = [
        {
            "index": index,
            "message": chat_message(reply),
            "logprobs": {"content": [token_logprob(item) for item in reply.logprobs], "refusal": None}
            if with_logprobs
            else None,
            "finish_reason": finish_reason(reply),
        }
        for index, reply in enumerate(replies)
    ]
    return {
        **head,
        "object": "chat.completion",
        "choices": choices,
        "usage": usage([reply.usage for reply in replies]),
        "media": media(replies[0].media),
    }


def chat_delta(delta: Delta) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The `delta` and the `logprobs` of one chunk."""
    body: dict[str, Any] = {}
    if delta.text:
        body["content"] = delta.text
    if delta.tool_call is not None:
        body["tool_calls"] = [{"index": delta.index, **tool_call(delta.tool_call)}]
    logprobs = {"content": [token_logprob(item) for item in delta.tokens], "refusal": None} if delta.tokens else None
    return body, logprobs


def chat_chunk(
    head: dict[str, Any],
    index: int,
    delta: dict[str, Any],
    reason: str | None = None,
    logprobs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
    return {**head, "object": "chat.completion.chunk", "choices": [choice]}


def completion_choice(
    index: int, text: str, reason: str | None, tokens: Sequence[TokenLogprob] | None = None
) -> dict[str, Any]:
    """A choice of /v1/completions, whose probabilities have a shape of their own; tokens: None unless asked for."""
    logprobs = None
    if tokens is not None:
        logprobs = {
            "tokens": [item.text for item in tokens],
            "token_logprobs": [_finite(item.logprob) for item in tokens],
            "top_logprobs": [
                {raw.decode("utf-8", "replace"): _finite(logprob) for raw, logprob in item.top} for item in tokens
            ],
            "text_offset": [],
        }
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}


def event(data: object, name: str | None = None) -> str:
    """One server-sent event."""
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)}\n\n"
