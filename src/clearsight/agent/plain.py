"""Messages and tools as plain JSON in OpenAI's form: what servers are sent, what a trajectory and training data hold.

`clearsight.messages.parse_messages` reads it back.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image as PillowImage

from clearsight.messages import Image, Message, Part, Text, Tool, ToolCall

Json = dict[str, Any]


def plain_tools(tools: Iterable[Tool]) -> list[Json]:
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        for tool in tools
    ]


def plain_messages(messages: Iterable[Message], *, pictures_in_results: bool = True) -> list[Json]:
    """Pictures become data: addresses. pictures_in_results False moves those of tool turns into a user turn behind."""
    turns: list[Json] = []
    held: list[Image] = []
    for message in messages:
        if held and message.role != "tool":
            turns.append(_result_pictures(held))
            held = []
        parts = message.parts
        if message.role == "tool" and not pictures_in_results:
            held += [part for part in parts if isinstance(part, Image)]
            parts = tuple(part for part in parts if not isinstance(part, Image))
        turns.append(_turn(message, parts))
    return [*turns, _result_pictures(held)] if held else turns


def _result_pictures(pictures: Sequence[Image]) -> Json:
    said = {"type": "text", "text": "(pictures of the results above)"}
    return {"role": "user", "content": [said, *map(_content, pictures)]}


def _turn(message: Message, parts: Sequence[Part]) -> Json:
    calls = [part for part in parts if isinstance(part, ToolCall)]
    content = [_content(part) for part in parts if not isinstance(part, ToolCall)]
    alone = all(item["type"] == "text" for item in content)
    turn: Json = {"role": message.role, "content": "".join(item["text"] for item in content) if alone else content}
    if calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _content(part: Part) -> Json:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        return {"type": "image_url", "image_url": {"url": picture_address(part.source)}}
    raise TypeError(f"a {type(part).__name__} has no form in the OpenAI protocol")


def picture_address(source: Any) -> str:
    """A picture as an address that holds it; what is an address already stays one."""
    if isinstance(source, str):
        return source
    if isinstance(source, PillowImage.Image):
        # The quickest setting: screens are flat, and a step should not wait for the last byte saved.
        buffer = io.BytesIO()
        source.save(buffer, "PNG", compress_level=1)
        source = buffer.getvalue()
    if not isinstance(source, bytes):
        raise TypeError(f"a picture must be an address, bytes or a PIL image here, not {type(source).__name__}")
    return f"data:image/png;base64,{base64.b64encode(source).decode()}"


def picture_of(address: str) -> PillowImage.Image:
    """The picture in a data: address."""
    picture = PillowImage.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    return picture.convert("RGB")
