"""What a tool gives back, as parts of a message: texts and pictures, bounded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from clearsight.messages import Image, Text


@dataclass(frozen=True, slots=True)
class Result:
    """One call's result. failed: the text says why, and the model may try again."""

    parts: tuple[Text | Image, ...]
    failed: bool = False

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Text))


def failure(reason: str) -> Result:
    return Result((Text(f"Error: {reason}"),), failed=True)


def result_of(value: Any, max_chars: int) -> Result:
    """A tool's return value: a text, a picture (PIL or an RGB array), a list that mixes them, or anything JSON can say.

    max_chars: of all texts together; what is longer is cut, and says so.
    """
    if isinstance(value, Result):
        return Result(_bounded(value.parts, max_chars), value.failed)
    return Result(_bounded(_parts(value), max_chars))


def _parts(value: Any) -> tuple[Text | Image, ...]:
    if isinstance(value, (Text, Image)):
        return (value,)
    if isinstance(value, str):
        return (Text(value),)
    if value is None:
        return (Text("done"),)
    if isinstance(value, PillowImage.Image) or _is_picture(value):
        return (Image(value if isinstance(value, PillowImage.Image) else PillowImage.fromarray(value)),)
    if isinstance(value, (list, tuple)) and any(map(_holds_picture, value)):
        return tuple(part for item in value for part in _parts(item))
    return (Text(json.dumps(value, ensure_ascii=False, default=str)),)


def _is_picture(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3


def _holds_picture(value: Any) -> bool:
    return isinstance(value, (PillowImage.Image, Image)) or _is_picture(value)


def _bounded(parts: Sequence[Text | Image], max_chars: int) -> tuple[Text | Image, ...]:
    kept: list[Text | Image] = []
    for part in parts:
        if isinstance(part, Text):
            total = len(part.text)
            if total > max_chars:
                part = Text(f"{part.text[:max_chars]}\n(cut: {total} characters; the limit is {max_chars})")
            max_chars = max(0, max_chars - total)
        kept.append(part)
    return tuple(kept)
