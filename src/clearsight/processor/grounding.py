"""Boxes and points in an answer as data: in thousandths as the model writes them, and in source pixels (facts, 7.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from clearsight.processor.chat import BOX_END, BOX_START, REF_END, REF_START
from clearsight.processor.processor import MediaUse
from clearsight.processor.tokenizer import Tokenizer

_CORNERS = re.compile(r"\(\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\)(?:\s*,\s*\(\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\))?")
_PICTURE = re.compile(r"\bpicture (\d{1,3})\b", re.IGNORECASE)
_LONGEST = 64  # characters between two marks; what is longer is no box


@dataclass(frozen=True, slots=True)
class Annotation:
    """One box or point of an answer. kind: "box" or "point". label: the phrase it belongs to, or "".

    image: number of the picture among the pictures of the conversation, from 0. relative: x1, y1, x2, y2 (or x, y) in
    thousandths, clipped to 0..1000. pixels: the same in source pixels of that picture.
    """

    kind: str
    label: str
    image: int
    relative: tuple[int, ...]
    pixels: tuple[float, ...]


class GroundingReader:
    """Finds boxes while an answer is made; fed with every token and the text that it completed.

    A box belongs to the only picture there is. Of several it is the one the answer named last as "Picture k", or
    the last one shown.
    """

    def __init__(self, tokenizer: Tokenizer, media: Sequence[MediaUse]) -> None:
        ids = tokenizer.special_ids
        self._marks = {ids[name]: name for name in (REF_START, REF_END, BOX_START, BOX_END)}
        self._sizes = [use.original_size for use in media if use.kind == "image"]
        self._open: str | None = None
        self._inside: list[str] = []
        self._label = ""
        self._recent = ""
        self._image = len(self._sizes) - 1
        self.found: list[Annotation] = []

    def push(self, token: int, text: str) -> None:
        mark = self._marks.get(token)
        if mark is None:
            if self._open is not None:
                self._inside.append(text)
            elif text:
                self._note(text)
            return
        content = "".join(self._inside).strip()
        if mark == REF_END and self._open == REF_START:
            self._label = content
        elif mark == BOX_END and self._open == BOX_START and len(content) <= _LONGEST:
            self._add(content)
        self._open = mark if mark in (REF_START, BOX_START) else None
        self._inside = []

    def _note(self, text: str) -> None:
        self._recent = (self._recent + text)[-_LONGEST:]
        for match in _PICTURE.finditer(self._recent):
            if 1 <= int(match[1]) <= len(self._sizes):
                self._image = int(match[1]) - 1

    def _add(self, content: str) -> None:
        match = _CORNERS.fullmatch(content)
        if match is None or not self._sizes:
            return
        values = [min(1000, int(value)) for value in match.groups() if value is not None]
        if len(values) == 4:
            x1, y1, x2, y2 = values
            values = [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]
        sides = self._sizes[self._image] * (len(values) // 2)
        pixels = tuple(round(value / 1000 * side, 2) for value, side in zip(values, sides, strict=True))
        kind = "box" if len(values) == 4 else "point"
        self.found.append(Annotation(kind, self._label, self._image, tuple(values), pixels))
