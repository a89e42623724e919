"""One line of a user's data as a conversation: the forms that people already have, told apart by their keys.

OpenAI: `messages` with typed parts, and `tools`. LLaVA and ShareGPT: `conversations` of {from, value}, with <image>
and <video> placeholders for what `image`, `images`, `video` or `videos` list. LLaMA-Factory: `messages` of {role,
content} with the same placeholders (facts, 9).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clearsight.messages import (
    Box,
    Image,
    Message,
    MessageError,
    Part,
    Point,
    Ref,
    Text,
    Tool,
    ToolCall,
    Video,
    parse_messages,
    parse_tools,
)
from clearsight.processor.chat import BOX_END, BOX_START, REF_END, REF_START

_MEDIA_KEYS = {"image": "<image>", "images": "<image>", "video": "<video>", "videos": "<video>"}
_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}
_MARKS = re.compile(
    rf"{re.escape(REF_START)}(?P<ref>.*?){re.escape(REF_END)}"
    rf"|{re.escape(BOX_START)}\((?P<x1>\d+),(?P<y1>\d+)\)(?:,\((?P<x2>\d+),(?P<y2>\d+)\))?{re.escape(BOX_END)}",
    re.DOTALL,
)


class RecordError(ValueError):
    """A line of data cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """A conversation to learn from and what may be called in it."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()


def read_record(row: Any, locate: Callable[[str], str]) -> Record:
    """One row of any of the forms. locate: turns the name of a picture or video in the data into its path.

    Raises RecordError or MessageError.
    """
    if not isinstance(row, Mapping):
        raise RecordError(f"a sample must be an object with keys, not {type(row).__name__}")
    media = {key: row[key] for key in _MEDIA_KEYS if row.get(key) is not None}
    if row.get("conversations") is not None:
        messages = _with_placeholders(row, row["conversations"], "from", "value", media)
    elif row.get("messages") is not None and media:
        messages = _with_placeholders(row, row["messages"], "role", "content", media)
    elif row.get("messages") is not None:
        messages = parse_messages(_meant(row["messages"]))
    else:
        raise RecordError(f"it has neither 'messages' nor 'conversations'; found keys {sorted(map(str, row))}")
    if not any(message.role == "assistant" for message in messages):
        raise RecordError("it has no assistant turn, so there is nothing to learn")
    return Record(tuple(_settled(message, locate) for message in messages), _tools(row.get("tools")))


def _meant(messages: Any) -> Any:
    """Rows of a table have every key that any row has; those that hold nothing are not meant."""
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        return messages
    return [_without_nothing(item) for item in messages]


def _without_nothing(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nothing(item) for key, item in value.items() if item is not None}
    return [_without_nothing(item) for item in value] if isinstance(value, list) else value


def _tools(tools: Any) -> tuple[Tool, ...]:
    if isinstance(tools, str):
        try:
            tools = json.loads(tools) if tools.strip() else ()
        except ValueError as error:
            raise RecordError(f"its tools are not valid JSON: {error}") from error
    return parse_tools(tools or ())


# --- placeholders ------------------------------------------------------------------------------------------


def _with_placeholders(
    row: Mapping[str, Any], turns: Any, role_key: str, text_key: str, media: Mapping[str, Any]
) -> list[Message]:
    waiting = {mark: [item for key, kind in _MEDIA_KEYS.items() if kind == mark for item in _listed(media.get(key))]
               for mark in ("<image>", "<video>")}  # fmt: skip
    counts = {mark: len(items) for mark, items in waiting.items()}
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise RecordError("its turns must be a non-empty list")
    messages = [Message("system", (Text(row["system"]),))] if row.get("system") else []
    for turn in turns:
        if not isinstance(turn, Mapping) or not isinstance(turn.get(text_key), str):
            raise RecordError(f"a turn needs {role_key!r} and a text {text_key!r}; found {turn!r:.80}")
        named = turn.get(role_key)
        if named not in _ROLES:
            raise RecordError(f"unknown role {named!r}; the roles are {', '.join(_ROLES)}")
        messages.append(Message(_ROLES[named], tuple(_turn_parts(named, turn[text_key], waiting))))
    for mark, left in waiting.items():
        if left:
            kind = "pictures" if mark == "<image>" else "videos"
            raise RecordError(f"it lists {counts[mark]} {kind} but has {counts[mark] - len(left)} {mark} placeholders")
    return messages


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _turn_parts(named: str, text: str, waiting: dict[str, list[Any]]) -> Iterator[Part]:
    """What an assistant writes holds no placeholder: a model writes text alone."""
    if named == "function_call":
        yield from _calls(text)
        return
    if _ROLES[named] == "assistant":
        yield Text(text)
        return
    pieces = re.split(r"\s*(<image>|<video>)\s*", text)
    for piece in pieces:
        if piece in waiting:
            if not waiting[piece]:
                raise RecordError(f"it has more {piece} placeholders than it lists files for")
            source = waiting[piece].pop(0)
            yield (
                Image(source)
                if piece == "<image>"
                else parse_messages([{"role": "user", "content": [{"type": "video", "video": source}]}])[0].parts[0]
            )
        elif piece:
            yield Text(piece)


def _calls(text: str) -> Iterator[Part]:
    try:
        calls = json.loads(text)
        for call in calls if isinstance(calls, list) else [calls]:
            arguments = call.get("arguments", {})
            yield ToolCall(call["name"], arguments if isinstance(arguments, str) else json.dumps(arguments))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        if isinstance(error, MessageError):
            raise
        raise RecordError(f"a function_call must be JSON with name and arguments, not {text!r:.80}") from error


# --- what the parts hold -----------------------------------------------------------------------------------


def _settled(message: Message, locate: Callable[[str], str]) -> Message:
    """With files located and boxes as parts of their own."""
    parts: list[Part] = []
    for part in message.parts:
        if isinstance(part, Text):
            parts += _marked_parts(part.text)
        elif isinstance(part, Image):
            parts.append(replace(part, source=_source(part.source, locate)))
        elif isinstance(part, Video):
            parts.append(_located_video(part, locate))
        else:
            parts.append(part)
    return replace(message, parts=tuple(parts))


def _located_video(video: Video, locate: Callable[[str], str]) -> Video:
    if isinstance(video.source, (list, tuple)):
        return replace(video, source=tuple(_source(frame, locate) for frame in video.source))
    return replace(video, source=_source(video.source, locate))


def _source(source: Any, locate: Callable[[str], str]) -> Any:
    """Tables hold a picture as {"bytes": ..., "path": ...} when they were read without decoding."""
    if isinstance(source, Mapping) and set(source) <= {"bytes", "path"}:
        source = source.get("bytes") or source.get("path")
    return locate(source) if isinstance(source, str) else source


def _marked_parts(text: str) -> list[Part]:
    """References and boxes, written as published data writes them, become the special tokens that they stand for."""
    parts: list[Part] = []
    end = 0
    for match in _MARKS.finditer(text):
        if match.start() > end:
            parts.append(Text(text[end : match.start()]))
        parts.append(_mark(match))
        end = match.end()
    if end < len(text) or not parts:
        parts.append(Text(text[end:]))
    return parts


def _mark(match: re.Match[str]) -> Part:
    if match["ref"] is not None:
        return Ref(match["ref"])
    x1, y1 = int(match["x1"]), int(match["y1"])
    return Point(x1, y1) if match["x2"] is None else Box(x1, y1, int(match["x2"]), int(match["y2"]))
