"""What clients send, as pydantic models: every number bounded, every unknown field refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Json = dict[str, Any]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
Stops = Stop | Annotated[list[Stop], Field(max_length=4)] | None


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StreamOptions(_Request):
    include_usage: bool = False
    include_obfuscation: bool = False


class Sampled(_Request):
    """How tokens are chosen, for every kind of request; top_k, min_p and repetition_penalty go beyond OpenAI's."""

    model: Name
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    stream: bool | None = None
    # Taken and without effect here, so that clients which always send them work.
    user: str | None = None
    metadata: Json | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None


class Generated(Sampled):
    """What chat and plain completions share."""

    n: Annotated[int, Field(ge=1, le=128)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stops = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    stream_options: StreamOptions | None = None


class Structure(_Request):
    """vLLM's word for what an answer must look like: one of these."""

    schema_: Json | str | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None


class ChatRequest(Generated):
    messages: Annotated[list[Json], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: Json | None = None
    structured_outputs: Structure | None = None
    guided_json: Json | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    tools: Annotated[list[Json], Field(max_length=128)] | None = None
    tool_choice: str | Json | None = None
    parallel_tool_calls: bool | None = None
    tool_format: Literal["hermes", "function"] | None = None
    add_vision_id: bool = False
    modalities: list[Literal["text"]] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    store: bool | None = None


class CompletionRequest(Generated):
    prompt: str | Annotated[list[str], Field(min_length=1, max_length=16)]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: Literal[False] | None = None
    suffix: None = None
    best_of: Literal[1] | None = None


class ResponsesRequest(Sampled):
    input: str | Annotated[list[Json], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    previous_response_id: Name | None = None
    store: bool | None = None
    tools: Annotated[list[Json], Field(max_length=128)] | None = None
    tool_choice: str | Json | None = None
    parallel_tool_calls: bool | None = None
    text: Json | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    truncation: Literal["disabled"] | None = None
    include: list[Literal["message.output_text.logprobs"]] | None = None
    reasoning: Json | None = None
    background: Literal[False] | None = None
    stream_options: Json | None = None


class CountRequest(ChatRequest):
    """A chat request as it would be sent; what does not change its cost is checked and left aside."""

    model: Name | None = None  # type: ignore[assignment]  # there is but one to count for


_STRUCTURES = ("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar")
_TEXTS = ("messages", "tools", "prompt", "input", "instructions", "response_format", "text", *_STRUCTURES)
_MEDIA = frozenset(("image_url", "video_url", "image", "video", "file_data"))


def text_length(body: Sampled) -> int:
    """Characters of everything in a request that is text, which is all but its media."""
    length, rest = 0, [getattr(body, name, None) for name in _TEXTS]
    while rest:
        item = rest.pop()
        if isinstance(item, BaseModel):
            item = item.model_dump()
        if isinstance(item, str):
            length += len(item)
        elif isinstance(item, list):
            rest += item
        elif isinstance(item, dict):
            length += sum(map(len, item))
            rest += [value for key, value in item.items() if key not in _MEDIA]
    return length
