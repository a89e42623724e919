"""What a user can say: messages made of text, images and videos, from our own types or from plain dicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ROLES = ("system", "user", "assistant")


class MessageError(ValueError):
    """A message has a form that cannot be read; the text says which part and why."""


@dataclass(frozen=True, slots=True)
class Limits:
    """A part's own size wishes. Areas in pixels (per picture, or per video frame); a fixed size needs both sides."""

    min_pixels: int | None = None
    max_pixels: int | None = None
    resized_height: int | None = None
    resized_width: int | None = None

    def __post_init__(self) -> None:
        for name in ("min_pixels", "max_pixels", "resized_height", "resized_width"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value <= 0):
                raise MessageError(f"{name} is {value!r}; it must be a whole number above 0")
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


@dataclass(frozen=True, slots=True)
class Video:
    """frames: image sources in order of time (see Image.source)."""

    frames: tuple[Any, ...]
    limits: Limits = Limits()


Part = Text | Image | Video


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise MessageError(f"unknown role {self.role!r}; roles are {', '.join(ROLES)}")


MessageLike = Message | Mapping[str, Any]


def parse_messages(messages: Iterable[MessageLike]) -> list[Message]:
    """Our own types, the OpenAI form (`image_url`) or the announcement's form (facts, 11.3), mixed at will."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise MessageError(f"messages must be a list of messages, not {type(messages).__name__}")
    parsed = [item if isinstance(item, Message) else _parse_message(item) for item in messages]
    if not parsed:
        raise MessageError("there is no message to answer")
    return parsed


def _parse_message(item: Mapping[str, Any]) -> Message:
    if not isinstance(item, Mapping) or "role" not in item or "content" not in item:
        raise MessageError(f"a message needs 'role' and 'content'; found {_keys(item)}")
    unknown = sorted(set(item) - {"role", "content", "name"})
    if unknown:
        raise MessageError(f"unknown message key {unknown[0]!r}")
    content = item["content"]
    if isinstance(content, str):
        return Message(item["role"], (Text(content),))
    if not isinstance(content, Sequence):
        raise MessageError(f"content must be a text or a list of parts, not {type(content).__name__}")
    return Message(item["role"], tuple(_parse_part(part) for part in content))


_LIMIT_KEYS = frozenset(("min_pixels", "max_pixels", "resized_height", "resized_width"))


def _parse_part(part: Any) -> Part:
    if isinstance(part, (Text, Image, Video)):
        return part
    if isinstance(part, str):
        return Text(part)
    if not isinstance(part, Mapping):
        raise MessageError(f"a content part must be a text or a dict, not {type(part).__name__}")
    kind = part.get("type") or next((key for key in ("text", "image", "image_url", "video") if key in part), None)
    key = "image_url" if kind == "image" and "image" not in part else kind
    if key not in ("text", "image", "image_url", "video") or key not in part:
        raise MessageError(f"a content part needs one of text, image, image_url or video; found {_keys(part)}")
    unknown = sorted(set(part) - _LIMIT_KEYS - {"type", key})
    if unknown:
        raise MessageError(f"unknown key {unknown[0]!r} in a content part of type {kind!r}")
    limits = Limits(**{name: part[name] for name in _LIMIT_KEYS if name in part})
    value = part[key]
    if key == "text":
        if not isinstance(value, str):
            raise MessageError(f"a text part must hold a text, not {type(value).__name__}")
        return Text(value)
    if key == "video":
        if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or not value:
            raise MessageError("a video must be a non-empty list of frames")
        return Video(tuple(value), limits)
    return Image(_image_source(value, key), limits)


def _image_source(value: Any, key: str) -> Any:
    """The OpenAI form nests the address; `detail` asks for a size policy that has no meaning here."""
    if key == "image_url" and isinstance(value, Mapping):
        unknown = sorted(set(value) - {"url", "detail"})
        if unknown or not isinstance(value.get("url"), str):
            raise MessageError(f"image_url needs a 'url' text; found {_keys(value)}")
        return value["url"]
    return value


def _keys(item: Any) -> str:
    return f"keys {sorted(map(str, item))}" if isinstance(item, Mapping) else type(item).__name__
