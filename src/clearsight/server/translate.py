"""Requests into what the inner rooms take: messages, sampling, tools. Pure functions, also used by batch files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from clearsight.inputs import SamplingParams
from clearsight.media import is_remote
from clearsight.messages import MessageError
from clearsight.server.errors import ApiError
from clearsight.server.schema import ChatRequest, CompletionRequest, Generated, ResponsesRequest, Sampled, Structure
from clearsight.server.settings import ServerSettings

_LOW_PIXELS = 512 * 512
_PLAIN = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


def sampling(request: Sampled, default: SamplingParams, settings: ServerSettings) -> SamplingParams:
    """The model's own settings with what the request says in their place. Raises ApiError."""
    wanted: dict[str, Any] = {name: value for name in _PLAIN if (value := getattr(request, name)) is not None}
    if wanted.get("temperature"):
        # Official checkpoints set top_k to 1, which would leave a temperature without any effect (facts, 1.3).
        wanted = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, **wanted}
    if isinstance(request, Generated):
        wanted |= _generated(request)
    if isinstance(request, ResponsesRequest) and (request.include or request.top_logprobs):
        wanted["logprobs"] = request.top_logprobs or 0
    limit = _max_tokens(request)
    if limit is not None and limit > settings.max_tokens:
        raise ApiError(400, f"max_tokens is {limit}; the limit here is {settings.max_tokens}", param="max_tokens")
    wanted["max_tokens"] = limit or min(settings.default_max_tokens, settings.max_tokens)
    return replace(default, **wanted)


def _generated(request: Generated) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    if request.seed is not None:
        wanted["seed"] = request.seed % 2**63
    if request.stop:
        wanted["stop"] = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop)
    for name in ("presence_penalty", "frequency_penalty"):
        if getattr(request, name) is not None:
            wanted[name] = getattr(request, name)
    if request.logit_bias:
        wanted["logit_bias"] = tuple((_token(token), bias) for token, bias in request.logit_bias.items())
    wanted["logprobs"] = _logprobs(request)
    return wanted


def _logprobs(request: Generated) -> int | None:
    if isinstance(request, CompletionRequest):
        return request.logprobs
    if isinstance(request, ChatRequest) and (request.logprobs or request.top_logprobs):
        if not request.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs to be true", param="top_logprobs")
        return request.top_logprobs or 0
    return None


def _max_tokens(request: Sampled) -> int | None:
    for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"):
        if getattr(request, name, None) is not None:
            return int(getattr(request, name))
    return None


def _token(text: str) -> int:
    if not text.isdigit() or len(text) > 9:
        raise ApiError(400, f"logit_bias names {text!r}, which is no token id", param="logit_bias")
    return int(text)


def messages(items: Sequence[Mapping[str, Any]], settings: ServerSettings) -> list[dict[str, Any]]:
    """Chat messages as `parse_messages` takes them: developer turns are system turns. Raises MessageError."""
    if len(items) > settings.max_messages:
        raise MessageError(f"there are {len(items)} messages; the limit is {settings.max_messages}")
    parts = sum(len(item["content"]) for item in items if isinstance(item.get("content"), list))
    if parts > settings.max_parts:
        raise MessageError(f"there are {parts} content parts; the limit is {settings.max_parts}")
    remote = sum(map(_remote_addresses, items))
    if remote > settings.max_remote:
        raise MessageError(f"there are {remote} addresses to fetch; the limit of one request is {settings.max_remote}")
    return [
        {**item, "role": "system" if item.get("role") == "developer" else item.get("role"), "content": _content(item)}
        for item in items
    ]


def _content(item: Mapping[str, Any]) -> Any:
    """Over HTTP a picture or video is an address or a data: URL, whatever else Python callers may pass."""
    content = item.get("content")
    if not isinstance(content, list):
        return content
    return [_part(part) for part in content]


def _remote_addresses(item: Mapping[str, Any]) -> int:
    """How many texts in a message's parts are addresses that would have to be fetched."""
    content = item.get("content")
    texts = _texts_in([part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else [])
    return sum(is_remote(text) for text in texts)


def _texts_in(parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Texts that may be addresses: everything but what is said."""
    for part in parts:
        for key, value in part.items():
            if key not in ("text", "refusal", "type"):
                values = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
                yield from (text for text in values if isinstance(text, str))


def _part(part: Any) -> Any:
    if not isinstance(part, Mapping):
        raise MessageError(f"a content part must be an object, not {type(part).__name__}")
    kind = part.get("type")
    if kind == "refusal":
        return {"type": "text", "text": part.get("refusal", "")}
    if kind in ("text", "video_url"):
        return dict(part)
    if kind == "image_url":
        image = part.get("image_url")
        detail = image.get("detail") if isinstance(image, Mapping) else None
        return {**_detail(detail), **part}
    if kind in ("input_text", "output_text"):
        return {"type": "text", "text": part.get("text")}
    if kind == "input_image":
        limits = {name: part[name] for name in ("min_pixels", "max_pixels") if name in part}
        url = {"url": part.get("image_url")}
        return {"type": "image_url", "image_url": url, **_detail(part.get("detail")), **limits}
    if kind == "video":
        frames = part.get("video")
        if not isinstance(frames, str) and not (isinstance(frames, list) and all(isinstance(f, str) for f in frames)):
            raise MessageError("a video must be an address or a list of addresses of its frames")
        return dict(part)
    raise MessageError(f"content parts of type {kind!r} are not known here; send text, image_url or video_url")


def _detail(wish: Any) -> dict[str, int]:
    """OpenAI's word for how closely to look; `low` is what 512 x 512 pixels show. A part's own limits come first."""
    if wish not in (None, "auto", "high", "low"):
        raise MessageError(f"detail is {wish!r}; it must be auto, high or low")
    return {"max_pixels": _LOW_PIXELS} if wish == "low" else {}


def _wish(request: ChatRequest) -> dict[str, Any] | None:
    """What the answer must look like, in whichever of the ways that clients know it was said."""
    wishes = [] if request.response_format is None else [request.response_format]
    structure = request.structured_outputs or Structure()
    wishes += [_schema(value) for value in (structure.schema_, request.guided_json) if value is not None]
    for kind, field, values in (
        ("regex", "pattern", (structure.regex, request.guided_regex)),
        ("choice", "options", (structure.choice, request.guided_choice)),
        ("grammar", "grammar", (structure.grammar, request.guided_grammar)),
    ):
        wishes += [{"type": kind, field: value} for value in values if value is not None]
    if len(wishes) > 1:
        message = f"{len(wishes)} fields say what the answer must look like; send one"
        raise ApiError(400, message, param="response_format")
    return wishes[0] if wishes else None


def _schema(value: Mapping[str, Any] | str) -> dict[str, Any]:
    try:
        schema = json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ApiError(400, f"the schema is not JSON: {error}", param="guided_json") from None
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def start_options(request: ChatRequest) -> dict[str, Any]:
    """What `VLM.start` takes besides messages and sampling."""
    return {
        "tools": request.tools or (),
        "tool_choice": request.tool_choice or ("auto" if request.tools else "none"),
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "response_format": _wish(request),
        "tool_format": request.tool_format or "hermes",
        "add_vision_id": request.add_vision_id,
    }


def response_messages(
    items: str | Sequence[Mapping[str, Any]], instructions: str | None, settings: ServerSettings
) -> list[dict[str, Any]]:
    """Input items of /v1/responses as chat messages; calls that follow each other belong to one turn."""
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    found: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    for item in items:
        kind = item.get("type", "message")
        if kind == "message":
            found.append({"role": item.get("role"), "content": item.get("content")})
        elif kind == "function_call":
            call = {"id": item.get("call_id"), "type": "function", "function": _function(item)}
            if not found or found[-1]["role"] != "assistant":
                found.append({"role": "assistant", "content": None})
            found[-1]["tool_calls"] = [*found[-1].get("tool_calls", ()), call]
        elif kind == "function_call_output":
            found.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")})
        elif kind != "reasoning":
            raise MessageError(f"input items of type {kind!r} are not known here")
    return messages(found, settings)


def _function(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": item.get("name"), "arguments": item.get("arguments") or "{}"}


def response_options(request: ResponsesRequest) -> dict[str, Any]:
    """What `VLM.start` takes besides messages and sampling. Raises ApiError for tools that only OpenAI hosts."""
    for tool in request.tools or ():
        if tool.get("type") != "function":
            raise ApiError(400, f"tools of type {tool.get('type')!r} are not offered here", param="tools")
    wish = (request.text or {}).get("format")
    if isinstance(wish, Mapping) and wish.get("type") == "json_schema":
        wish = {"type": "json_schema", "json_schema": wish}
    return {
        "tools": request.tools or (),
        "tool_choice": request.tool_choice or ("auto" if request.tools else "none"),
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "response_format": wish,
    }
