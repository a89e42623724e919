"""ChatML written by code: a conversation becomes spans of text, special tokens and media (facts, 7.1).

One walk over the messages serves both forms: ids for the model, and the text that the published template renders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from clearsight.inputs import Grid
from clearsight.messages import Box, Image, Message, Part, Point, Ref, Text, Tool, ToolCall, Video
from clearsight.processor.tokenizer import Tokenizer
from clearsight.processor.tools import RESULT, RETURN, announce, call_text

DEFAULT_SYSTEM = "You are a helpful assistant."

END_OF_TEXT = "<|endoftext|>"
IM_START, IM_END = "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"
REF_START, REF_END = "<|object_ref_start|>", "<|object_ref_end|>"
BOX_START, BOX_END = "<|box_start|>", "<|box_end|>"


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


def chat_spans(
    messages: Sequence[Message],
    *,
    add_vision_id: bool,
    add_generation_prompt: bool,
    tools: Sequence[Tool] = (),
    tool_format: str = "hermes",
) -> Iterator[Span]:
    """The conversation in order. Supervised are each assistant turn's content and end marker (facts, 7.2).

    A system turn is put in front if the first message is none. add_vision_id: each picture and video is announced by
    "Picture k: " or "Video k: ", counted over the whole conversation. tools: announced after the system text.
    """
    writer = _Writer(add_vision_id, tool_format)
    if messages and messages[0].role != "system":
        messages = [Message("system", (Text(DEFAULT_SYSTEM),)), *messages]
    if tools and messages:
        messages = [Message("system", (*messages[0].parts, Text(announce(tools, tool_format)))), *messages[1:]]
    turns = _function_turns if tool_format == "function" else _hermes_turns
    for turn in turns(messages):
        yield from writer.turn(turn)
    open_turn = tool_format == "function" and bool(messages) and messages[-1].role == "tool"
    if add_generation_prompt and not open_turn:
        yield Special(IM_START), False
        yield "assistant\n", False


def document_spans(parts: Iterable[Part]) -> Iterator[Span]:
    """Texts and media without chat format, closed by the end of text; all but the media is supervised (facts, 7.2)."""
    for part in parts:
        if isinstance(part, Text):
            yield part.text, True
        elif isinstance(part, (Image, Video)):
            yield Special(VISION_START), False
            yield part, False
            yield Special(VISION_END), False
    yield Special(END_OF_TEXT), True


_Turn = tuple[str, list[tuple[Part, bool]], bool]
"""Role, parts with whether they are learned, and whether the turn ends here."""


def _hermes_turns(messages: Sequence[Message]) -> Iterator[_Turn]:
    """Results of calls stand in a user turn, those that follow each other in one (facts, 8.6)."""
    for index, message in enumerate(messages):
        learned = message.role == "assistant"
        if message.role != "tool":
            yield message.role, [(part, learned) for part in message.parts], True
        elif index == 0 or messages[index - 1].role != "tool":
            parts: list[Part] = []
            for result in _run_of_results(messages, index):
                parts += [Text("\n<tool_response>\n" if parts else "<tool_response>\n"), *result.parts]
                parts.append(Text("\n</tool_response>"))
            yield "user", [(part, False) for part in parts], True


def _function_turns(messages: Sequence[Message]) -> Iterator[_Turn]:
    """Calls, results and what follows them share one assistant turn (facts, 8.2 and 8.5)."""
    index = 0
    while index < len(messages):
        message = messages[index]
        index += 1
        if message.role not in ("assistant", "tool"):
            yield message.role, [(part, False) for part in message.parts], True
            continue
        index -= 1
        parts: list[tuple[Part, bool]] = []
        last = "tool"
        while index < len(messages) and messages[index].role in ("assistant", "tool"):
            message, last = messages[index], messages[index].role
            if last == "tool":
                # The model writes the keyword where it wants a result; the result itself is not its own.
                parts += [(Text(f"\n{RESULT}"), True), (Text(": "), False)]
                parts += [(part, False) for part in message.parts] + [(Text(f"\n{RETURN}"), False)]
            else:
                parts += [(Text(": "), True)] * bool(parts) + [(part, True) for part in message.parts]
            index += 1
        yield "assistant", parts, last == "assistant" or index < len(messages)


def _run_of_results(messages: Sequence[Message], start: int) -> Iterator[Message]:
    for message in messages[start:]:
        if message.role != "tool":
            return
        yield message


class _Writer:
    """Turns into spans; counts pictures and videos over the whole conversation."""

    def __init__(self, add_vision_id: bool, tool_format: str) -> None:
        self._add_vision_id = add_vision_id
        self._tool_format = tool_format
        self._counts: dict[type[Part], int] = {Image: 0, Video: 0}

    def turn(self, turn: _Turn) -> Iterator[Span]:
        role, parts, ends = turn
        yield Special(IM_START), False
        yield f"{role}\n", False
        for index, (part, learned) in enumerate(parts):
            if isinstance(part, ToolCall) and index:
                yield "\n", learned
            yield from self._part(part, learned)
        if ends:
            yield Special(IM_END), role == "assistant"
            yield "\n", role == "assistant"

    def _part(self, part: Part, learned: bool) -> Iterator[Span]:
        if isinstance(part, Text):
            yield part.text, learned
        elif isinstance(part, ToolCall):
            yield call_text(part, self._tool_format), learned
        elif isinstance(part, Ref):
            yield from _marked(REF_START, part.text, REF_END, learned)
        elif isinstance(part, Box):
            yield from _marked(BOX_START, f"({part.x1},{part.y1}),({part.x2},{part.y2})", BOX_END, learned)
        elif isinstance(part, Point):
            yield from _marked(BOX_START, f"({part.x},{part.y})", BOX_END, learned)
        else:
            yield from self._medium(part)

    def _medium(self, part: Image | Video) -> Iterator[Span]:
        self._counts[type(part)] += 1
        if self._add_vision_id:
            label = "Picture" if isinstance(part, Image) else "Video"
            yield f"{label} {self._counts[type(part)]}: ", False
        yield Special(VISION_START), False
        yield part, False
        yield Special(VISION_END), False


def _marked(start: str, text: str, end: str, learned: bool) -> Iterator[Span]:
    yield Special(start), learned
    yield text, learned
    yield Special(end), learned


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
