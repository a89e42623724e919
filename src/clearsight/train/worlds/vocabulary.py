"""The words that questions and fixed answers are made of, as the pieces a Qwen2 tokenizer cuts them into.

A small model gives each of these pieces a token of its own and spells everything else in bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from clearsight.processor.tools import announce, call_text

from .calls import TOOLS, example_calls
from .clips import DIRECTIONS, TIMES
from .questions import absent, questions
from .scene import COLOURS, SHAPES, plural, with_article
from .shapes import NO_TEXT, SIDES
from .text import NO_SHAPES, ORDINALS
from .wording import WORDINGS

_CHAT = ("system\n", "user\n", "assistant\n", "You are a helpful assistant.")

# The Qwen2 split rule (facts, 1.4) for ASCII text, which is all that the templates hold.
_PIECE = re.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]| ?[^\sA-Za-z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def pieces(text: str) -> list[str]:
    """`text` (ASCII) cut by the Qwen2 pre-tokenizer rule; the pieces join to `text` again."""
    return _PIECE.findall(text)


def question_words() -> list[str]:
    """Every piece longer than one byte of the questions, the fixed answers, the chat frame and the tools, sorted."""
    found = {piece for text in (*_texts(), *_later_texts()) for piece in pieces(text)} | _call_pieces()
    return sorted(piece for piece in found if len(piece) > 1)


def _call_pieces() -> set[str]:
    """What calls, results and answers from them have in common whatever is seen in the picture."""
    drawn = [{piece for text in _call_texts(seed) for piece in pieces(text)} for seed in range(12)]
    return set.intersection(*drawn)


def _call_texts(seed: int) -> Iterator[str]:
    for call, result, answer in example_calls(seed):
        yield from (call_text(call, "hermes"), result, answer)


def _later_texts() -> Iterator[str]:
    """What the wordings of questions.txt say around their slots, and how tools are announced."""
    for wordings in questions().values():
        for wording in (*wordings.train, *wordings.test):
            yield from re.split(r"{\w+}", wording[0].upper() + wording[1:])
    yield from (absent("box"), *DIRECTIONS, *TIMES, "picture 1", "\n<tool_response>\n", "\n</tool_response>")
    yield announce(tuple(TOOLS.values()), "hermes")


def _texts() -> list[str]:
    colours, shapes = list(COLOURS), list(SHAPES)
    slots = {
        "colour": colours,
        "shape": shapes,
        "shapes": [plural(shape) for shape in shapes],
        "a": ["a", "an"],
        "nth": list(ORDINALS),
    }
    texts = [*_CHAT, NO_TEXT, NO_SHAPES, "yes", "no", *SIDES, *colours, *shapes]
    texts += [with_article(f"{colour} {shape}") for colour in colours for shape in shapes]
    for wordings in WORDINGS.values():
        texts += [filled for wording in (*wordings.train, *wordings.test) for filled in _fill(wording, slots)]
    return texts


def _fill(wording: str, slots: dict[str, list[str]]) -> list[str]:
    """`wording` with every value of its slots in turn; slots are filled in step, not in every combination."""
    if "{" not in wording:
        return [wording]
    count = max(map(len, slots.values()))
    return [wording.format(**{name: values[i % len(values)] for name, values in slots.items()}) for i in range(count)]
