"""The chat format cut into the pieces that a session puts together over time; written by the processor, never here."""

from __future__ import annotations

from dataclasses import dataclass

from clearsight.inputs import Grid
from clearsight.messages import Message, Text, Video
from clearsight.processor import Processor
from clearsight.processor.chat import chat_spans, encode


@dataclass(frozen=True, slots=True)
class Template:
    """Token ids. opening: of a user turn. start, end: around a video. pad: one token of a frame. closing: of an answer.

    What `question` gives follows `end` (or, in a turn without frames, `opening`) and ends where an answer begins.
    """

    processor: Processor
    system: tuple[int, ...]
    opening: tuple[int, ...]
    start: tuple[int, ...]
    pad: int
    end: tuple[int, ...]
    closing: tuple[int, ...]

    @staticmethod
    def of(processor: Processor, system: str) -> Template:
        ids = _encode(processor, system)
        opening, start, pad, end, _ = _cut(processor, system, "?")
        closing = [processor.config.tokens.im_end, *processor.tokenizer.encode("\n")]
        return Template(processor, tuple(ids), tuple(opening), tuple(start), pad, tuple(end), tuple(closing))

    def question(self, text: str) -> list[int]:
        return _cut(self.processor, "", text)[-1]


def _encode(processor: Processor, system: str, *user: Video | Text) -> list[int]:
    messages = [Message("system", (Text(system),)), *([Message("user", user)] if user else [])]
    spans = chat_spans(messages, add_vision_id=False, add_generation_prompt=bool(user))
    merge = processor.config.vision.merge_size
    return encode(spans, processor.tokenizer, lambda _: Grid(1, merge, merge), merge).ids


def _cut(processor: Processor, system: str, text: str) -> tuple[list[int], list[int], int, list[int], list[int]]:
    """(opening, start, pad, end, question) of a user turn with one token of video and `text`."""
    ids = _encode(processor, system, Video(()), Text(text))[len(_encode(processor, system)) :]
    at = ids.index(processor.config.tokens.video_pad)
    return ids[: at - 1], ids[at - 1 : at], ids[at], ids[at + 1 : at + 2], ids[at + 2 :]
