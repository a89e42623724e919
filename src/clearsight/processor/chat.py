"""ChatML written by code: a conversation becomes spans of text, special tokens and media (facts, 7.1).

One walk over the messages serves both forms: ids for the model, and the text that the published template renders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from clearsight.inputs import Grid
from clearsight.messages import Image, Message, Text, Video
from clearsight.processor.tokenizer import Tokenizer

DEFAULT_SYSTEM = "You are a helpful assistant."

IM_START, IM_END = "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"


@dataclass(frozen=True, slots=True)
class Special:
    """One special token, by name."""

    name: str


Span = tuple[str | Special | Image | Video, bool]
"""What stands there, and whether a model is trained to write it."""


@dataclass(frozen=True, slots=True)
class EncodedChat:
    """ids and supervised: one entry a token, pads expanded. runs: first pad token and grid of each picture or video."""

    ids: list[int]
    supervised: list[bool]
    runs: list[tuple[int, Grid]]


def chat_spans(messages: Sequence[Message], *, add_vision_id: bool, add_generation_prompt: bool) -> Iterator[Span]:
    """The conversation in order. Supervised are each assistant turn's content and end marker (facts, 7.2).

    A system turn is put in front if the first message is none. add_vision_id: each picture and video is announced by
    "Picture k: " or "Video k: ", counted over the whole conversation.
    """
    counts = {Image: 0, Video: 0}
    if messages and messages[0].role != "system":
        messages = [Message("system", (Text(DEFAULT_SYSTEM),)), *messages]
    for message in messages:
        learned = message.role == "assistant"
        yield Special(IM_START), False
        yield f"{message.role}\n", False
        for part in message.parts:
            if isinstance(part, Text):
                yield part.text, learned
                continue
            counts[type(part)] += 1
            if add_vision_id:
                label = "Picture" if isinstance(part, Image) else "Video"
                yield f"{label} {counts[type(part)]}: ", False
            yield Special(VISION_START), False
            yield part, False
            yield Special(VISION_END), False
        yield Special(IM_END), learned
        yield "\n", learned
    if add_generation_prompt:
        yield Special(IM_START), False
        yield "assistant\n", False


def render(spans: Iterable[Span]) -> str:
    """Text with the special tokens spelled out and one pad a medium, as the published template writes it.

    For people and for comparison only: encoding it would let users' text pose as special tokens.
    """
    return "".join(_spelled(item) for item, _ in spans)


def encode(
    spans: Iterable[Span], tokenizer: Tokenizer, grid_of: Callable[[Image | Video], Grid], merge_size: int = 2
) -> EncodedChat:
    """Ids with every pad repeated as often as its grid has merged tokens (facts, 7.1)."""
    chat = EncodedChat([], [], [])
    for item, learned in _joined(spans):
        if isinstance(item, str):
            ids = tokenizer.encode(item)
        elif isinstance(item, Special):
            ids = [tokenizer.special_ids[item.name]]
        else:
            grid = grid_of(item)
            chat.runs.append((len(chat.ids), grid))
            ids = [tokenizer.special_ids[_pad(item)]] * grid.tokens(merge_size)
        chat.ids.extend(ids)
        chat.supervised.extend([learned] * len(ids))
    return chat


def _joined(spans: Iterable[Span]) -> Iterator[Span]:
    """Neighbouring texts as one, as the reference tokenises them.

    What a model writes stays apart from the header before it: the header is all it sees when it begins to write.
    """
    text, text_learned = "", False
    for item, learned in spans:
        if text and not (isinstance(item, str) and learned == text_learned):
            yield text, text_learned
            text = ""
        if isinstance(item, str):
            text, text_learned = text + item, learned
        else:
            yield item, learned
    if text:
        yield text, text_learned


def _spelled(item: str | Special | Image | Video) -> str:
    if isinstance(item, str):
        return item
    return item.name if isinstance(item, Special) else _pad(item)


def _pad(item: Image | Video) -> str:
    return IMAGE_PAD if isinstance(item, Image) else VIDEO_PAD
