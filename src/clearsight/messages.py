"""What can be said: messages of text, images, videos, boxes and tool calls, from our own types or plain dicts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

ROLES = ("system", "user", "assistant", "tool")


class MessageError(ValueError):
    """A message has a form that cannot be read; the text says which part and why."""


def _check_number(name: str, value: Any, above: int, *, whole: bool = False) -> None:
    kinds = int if whole else (int, float)
    if value is not None and (isinstance(value, bool) or not isinstance(value, kinds) or not above < value < 1e18):
        raise MessageError(f"{name} is {value!r}; it must be a {'whole ' * whole}number above {above}")


@dataclass(frozen=True, slots=True)
class Limits:
    """A part's own size wishes. Areas in pixels (per picture, or per video frame); a fixed size needs both sides."""

    min_pixels: int | None = None
    max_pixels: int | None = None
    resized_height: int | None = None
    resized_width: int | None = None

    def __post_init__(self) -> None:
        for name in ("min_pixels", "max_pixels", "resized_height", "resized_width"):
            _check_number(name, getattr(self, name), 0, whole=True)
        if (self.resized_height is None) != (self.resized_width is None):
            raise MessageError("resized_height and resized_width go together; only one was given")
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise MessageError(f"min_pixels {self.min_pixels} is above max_pixels {self.max_pixels}")


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """source: a path, an http(s):, file: or data: address, bytes, PIL image or (H, W[, C]) uint8 array."""

    source: Any
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which frames of a video are looked at (facts, 4.2), None or False meaning the usual.

    fps: frames a second, or nframes: how many in all. min_frames, max_frames: bounds of the former. video_start,
    video_end: seconds. total_pixels: of all frames together. steady: frames at whole multiples of 1 / fps and a size
    that do not depend on the length, so that overlapping or growing videos share what they cost. strict: refuse a video
    that does not fit instead of looking at less of it.
    """

    fps: float | None = None
    nframes: int | None = None
    min_frames: int | None = None
    max_frames: int | None = None
    video_start: float | None = None
    video_end: float | None = None
    total_pixels: int | None = None
    steady: bool = False
    strict: bool = False

    def __post_init__(self) -> None:
        for name in ("nframes", "min_frames", "max_frames", "total_pixels"):
            _check_number(name, getattr(self, name), 0, whole=True)
        _check_number("fps", self.fps, 0)
        if self.video_start != 0:
            _check_number("video_start", self.video_start, 0)
        _check_number("video_end", self.video_end, 0)
        for name in ("steady", "strict"):
            if not isinstance(getattr(self, name), bool):
                raise MessageError(f"{name} is {getattr(self, name)!r}; it must be true or false")
        if self.nframes is not None and (self.fps is not None or self.steady):
            raise MessageError("nframes cannot go with fps or steady; give one of them")
        if self.min_frames and self.max_frames and self.min_frames > self.max_frames:
            raise MessageError(f"min_frames {self.min_frames} is above max_frames {self.max_frames}")
        if self.video_end is not None and (self.video_start or 0) >= self.video_end:
            raise MessageError(f"video_start {self.video_start or 0:g} must be before video_end {self.video_end:g}")


@dataclass(frozen=True, slots=True)
class Video:
    """source: a video file as a path, an http(s):, file: or data: address or bytes; a folder of pictures; or a tuple of
    picture sources in order of time (see Image.source)."""

    source: Any
    limits: Limits = Limits()
    sampling: Sampling = Sampling()


@dataclass(frozen=True, slots=True)
class Ref:
    """A phrase that a box or point belongs to, written between the object_ref tokens (facts, 7.3)."""

    text: str


@dataclass(frozen=True, slots=True)
class Box:
    """Top left and bottom right corner in thousandths of the picture's width and height (facts, 7.3)."""

    x1: int
    y1: int
    x2: int
    y2: int

    def __post_init__(self) -> None:
        _check_thousandths(self.x1, self.y1, self.x2, self.y2)
        if self.x1 > self.x2 or self.y1 > self.y2:
            raise MessageError(f"box {self.x1, self.y1, self.x2, self.y2} must name its top left corner first")


@dataclass(frozen=True, slots=True)
class Point:
    """A place in thousandths of the picture's width and height, written as a box of one corner."""

    x: int
    y: int

    def __post_init__(self) -> None:
        _check_thousandths(self.x, self.y)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool. arguments: a JSON object as text."""

    name: str
    arguments: str
    id: str = ""

    def __post_init__(self) -> None:
        try:
            known = json.loads(self.arguments)
        except (ValueError, RecursionError):
            known = None
        if not isinstance(known, dict):
            raise MessageError(f"the arguments of a call of {self.name!r} must be a JSON object, not {_short(self)}")


@dataclass(frozen=True, slots=True)
class Tool:
    """What may be called. parameters: the JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


Part = Text | Image | Video | Ref | Box | Point | ToolCall


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. A "tool" turn holds the result of the call named by tool_call_id: text and pictures."""

    role: str
    parts: tuple[Part, ...]
    tool_call_id: str = ""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise MessageError(f"unknown role {self.role!r}; roles are {', '.join(ROLES)}")
        if self.role != "assistant" and any(isinstance(part, ToolCall) for part in self.parts):
            raise MessageError(f"only an assistant calls tools; a {self.role} turn cannot")


MessageLike = Message | Mapping[str, Any]


def parse_messages(messages: Iterable[MessageLike]) -> list[Message]:
    """Our own types, the OpenAI form (`image_url`, `video_url`) or the announcement's (facts, 11.3), mixed at will."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise MessageError(f"messages must be a list of messages, not {type(messages).__name__}")
    parsed = [item if isinstance(item, Message) else _parse_message(item) for item in messages]
    if not parsed:
        raise MessageError("there is no message to answer")
    return parsed


def parse_tools(tools: Iterable[Tool | Mapping[str, Any]]) -> tuple[Tool, ...]:
    """Our own type, the OpenAI form {"type": "function", "function": {...}} or its inner object alone."""
    parsed = tuple(item if isinstance(item, Tool) else _parse_tool(item) for item in tools)
    names = [tool.name for tool in parsed]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise MessageError(f"two tools are named {double!r}")
    return parsed


def _parse_tool(item: Mapping[str, Any]) -> Tool:
    if not isinstance(item, Mapping) or item.get("type", "function") != "function":
        raise MessageError(f"a tool must be a function; found {_keys(item)}")
    function = item.get("function", item)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise MessageError(f"a tool needs a name; found {_keys(function)}")
    unknown = sorted(set(function) - {"type", "name", "description", "parameters", "strict"})
    if unknown:
        raise MessageError(f"unknown key {unknown[0]!r} in tool {function['name']!r}")
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(parameters, Mapping):
        raise MessageError(f"the parameters of tool {function['name']!r} must be a JSON schema object")
    return Tool(function["name"], function.get("description") or "", parameters)


_MESSAGE_KEYS = frozenset(("role", "content", "name", "tool_calls", "tool_call_id", "refusal", "annotations", "audio"))


def _parse_message(item: Mapping[str, Any]) -> Message:
    if not isinstance(item, Mapping) or "role" not in item or not {"content", "tool_calls"} & set(item):
        raise MessageError(f"a message needs 'role' and 'content'; found {_keys(item)}")
    # Clients send back what they received, with keys of the protocol that hold nothing.
    unknown = sorted(key for key in item if key not in _MESSAGE_KEYS and item[key] is not None)
    if unknown:
        raise MessageError(f"unknown message key {unknown[0]!r}")
    parts = [*_parse_content(item), *(_parse_call(call) for call in item.get("tool_calls") or ())]
    return Message(item["role"], tuple(parts), item.get("tool_call_id") or "")


def _parse_content(item: Mapping[str, Any]) -> list[Part]:
    content = item.get("content")
    if content is None and item["role"] == "assistant":
        return []
    if isinstance(content, str):
        return [Text(content)] if content or not item.get("tool_calls") else []
    if not isinstance(content, Sequence):
        raise MessageError(f"content must be a text or a list of parts, not {type(content).__name__}")
    return [_parse_part(part) for part in content]


def _parse_call(call: Any) -> ToolCall:
    if isinstance(call, ToolCall):
        return call
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise MessageError(f"a tool call needs a function with a name; found {_keys(call)}")
    arguments = function.get("arguments", "{}")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(function["name"], text or "{}", str(call.get("id") or ""))


_LIMIT_KEYS = frozenset(item.name for item in fields(Limits))
_SAMPLING_KEYS = frozenset(item.name for item in fields(Sampling))
_SOURCE_KEYS = ("text", "image", "image_url", "video", "video_url")


def _parse_part(part: Any) -> Part:
    if isinstance(part, (Text, Image, Video, Ref, Box, Point, ToolCall)):
        return part
    if isinstance(part, str):
        return Text(part)
    if not isinstance(part, Mapping):
        raise MessageError(f"a content part must be a text or a dict, not {type(part).__name__}")
    kind = part.get("type") or next((key for key in _SOURCE_KEYS if key in part), None)
    key = f"{kind}_url" if kind in ("image", "video") and kind not in part else kind
    if key not in _SOURCE_KEYS or key not in part:
        raise MessageError(f"a content part needs one of {', '.join(_SOURCE_KEYS)}; found {_keys(part)}")
    is_video = key.startswith("video")
    unknown = sorted(set(part) - _LIMIT_KEYS - (_SAMPLING_KEYS if is_video else set()) - {"type", key})
    if unknown:
        raise MessageError(f"unknown key {unknown[0]!r} in a content part of type {kind!r}")
    value = part[key]
    if key == "text":
        if not isinstance(value, str):
            raise MessageError(f"a text part must hold a text, not {type(value).__name__}")
        return Text(value)
    limits = Limits(**{name: part[name] for name in _LIMIT_KEYS if name in part})
    if is_video:
        sampling = Sampling(**{name: part[name] for name in _SAMPLING_KEYS if name in part})
        return Video(_video_source(_source(value, key)), limits, sampling)
    return Image(_source(value, key), limits)


def _source(value: Any, key: str) -> Any:
    """The OpenAI form nests the address; `detail` asks for a size policy that has no meaning here."""
    if key.endswith("_url") and isinstance(value, Mapping):
        unknown = sorted(set(value) - {"url", "detail"})
        if unknown or not isinstance(value.get("url"), str):
            raise MessageError(f"{key} needs a 'url' text; found {_keys(value)}")
        return value["url"]
    return value


def _video_source(value: Any) -> Any:
    if isinstance(value, (str, bytes, bytearray, memoryview, os.PathLike)):
        return value
    if not isinstance(value, Sequence) or not value:
        raise MessageError("a video must be a file, an address or a non-empty list of frames")
    return tuple(value)


def _keys(item: Any) -> str:
    return f"keys {sorted(map(str, item))}" if isinstance(item, Mapping) else type(item).__name__


def _check_thousandths(*values: int) -> None:
    for value in values:
        if type(value) is not int or not 0 <= value <= 1000:
            raise MessageError(f"a coordinate is {value!r}; it must be a whole number from 0 to 1000")


def _short(call: ToolCall) -> str:
    return repr(call.arguments if len(call.arguments) <= 60 else call.arguments[:57] + "...")
