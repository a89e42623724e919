"""Answers held to a JSON schema, a regular expression, a choice or a grammar, through llguidance.

The engine knows no tokenizer: a vocabulary is a list of byte strings.
"""

from __future__ import annotations

import json
import string
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from torch import Tensor

MAX_GRAMMAR_BYTES = 64 * 1024
MAX_DEPTH = 32
_KEPT = 64
_UNSETTLED = 3  # tokens of a text known in advance whose spelling may still change with what follows it
# With free white space a weak model can put line breaks between two tokens of JSON for ever.
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_LIMITS = LLParserLimits(
    initial_lexer_fuel=2_000_000,
    step_lexer_fuel=500_000,
    max_lexer_states=50_000,
    max_grammar_size=50_000,
)


@dataclass(frozen=True, slots=True)
class CallForm:
    """How a call is written: an opening mark, what `name` makes of the tool's name, its arguments, the closing."""

    opening: str
    name: Callable[[str], str]
    closing: str


Encode = Callable[[str], list[int]]


class GrammarError(ValueError):
    """A schema, expression or grammar cannot be used; the text says why."""


class _Vocabulary:
    """What the library wants to know of a tokenizer."""

    bos_token_id = None

    def __init__(self, tokens: list[bytes], ends: Sequence[int], special: Sequence[int], encode: Encode) -> None:
        self.tokens = tokens
        self.eos_token_id = ends[0]
        self.special_token_ids = list(special)
        self._encode = encode

    def __call__(self, text: str) -> list[int]:
        """What must come next is spelled in the tokens that the model itself would use."""
        if not isinstance(text, str):
            raise TypeError("texts only")  # the library asks by trying
        return self._encode(text)


class _Starts:
    """How else a short text may be spelled, depending on what follows it.

    A space and a quotation mark are one token before a letter and may be two before a sign.
    """

    def __init__(self, tokens: Sequence[bytes], encode: Encode) -> None:
        self._tokens, self._encode = tokens, encode
        self._known: OrderedDict[tuple[int, ...], list[int]] = OrderedDict()

    def __call__(self, spelled: Sequence[int]) -> list[int]:
        """What else the model's own spelling may begin with, before some character, inside the text of `spelled`."""
        key = tuple(spelled)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = sorted(self._find(key))
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return found

    def _find(self, spelled: tuple[int, ...]) -> set[int]:
        whole = b"".join(self._tokens[token] for token in spelled)
        try:
            text = whole.decode()
        except UnicodeDecodeError:
            return set()
        firsts = {self._encode(text + following)[0] for following in string.punctuation + "a0 \n"}
        return {token for token in firsts - {spelled[0]} if whole.startswith(self._tokens[token])}


class Grammars:
    """Compiles what answers must obey, once for each different text. May be shared by threads."""

    def __init__(
        self, tokens: list[bytes], ends: Sequence[int], special: Sequence[int], encode: Encode, rows: int
    ) -> None:
        """tokens: bytes of every token by id. ends: tokens that end an answer. rows: scores there are, >= tokens."""
        self._rows = rows
        self._ends = list(ends)
        padded = tokens + [b""] * (rows - len(tokens))
        vocabulary = TokenizerWrapper(_Vocabulary(padded, ends, special, encode))
        self._tokenizer = LLTokenizer(vocabulary, n_vocab=rows, eos_token=list(ends))
        self._starts = _Starts(padded, encode)
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    def json_schema(self, schema: Mapping[str, Any]) -> GrammarConstraint:
        """JSON that obeys `schema`. Raises GrammarError."""
        return self._constraint(_schema_grammar(schema))

    def json_object(self) -> GrammarConstraint:
        """Any JSON object."""
        return self.json_schema({"type": "object"})

    def regex(self, pattern: str) -> GrammarConstraint:
        """Text that matches `pattern` as a whole. Raises GrammarError."""
        return self._constraint(LLMatcher.grammar_from_regex(pattern))

    def choice(self, options: Sequence[str]) -> GrammarConstraint:
        """One of `options`, letter for letter. Raises GrammarError."""
        if not options or not all(options):
            raise GrammarError("a choice needs at least one option, none of them empty")
        return self.lark("start: " + " | ".join(json.dumps(option) for option in options))

    def lark(self, grammar: str) -> GrammarConstraint:
        """Text that a Lark grammar derives from `start`. Raises GrammarError."""
        return self._constraint(LLMatcher.grammar_from_lark(grammar))

    def tool_calls(
        self,
        tools: Mapping[str, Mapping[str, Any]],
        *,
        forced: bool,
        several: bool,
        form: CallForm,
        otherwise: Mapping[str, Any] | None = None,
    ) -> GrammarConstraint:
        """Calls of `tools` (name: schema of the arguments) written in `form`.

        forced: nothing but calls. Otherwise text is free until a call begins, or JSON of the schema `otherwise` stands
        in place of calls. several: more than one call may follow.
        """
        opening = form.opening
        bodies = [_call_body(name, schema, form) for name, schema in tools.items()]
        rules = [f"body_{index}: {body}" for index, body in enumerate(bodies)]
        rules.append("body: " + " | ".join(f"body_{index}" for index in range(len(bodies))))
        if forced or otherwise is not None:
            call = f"{json.dumps(opening)} body"
            start = f'{call} ("\\n" {call})*' if several else call
            if not forced:
                start += f" | %json {json.dumps(_checked(otherwise or {}))}"
        else:
            start = "call* tail" if several else "call | tail"
            rules.append(f"call: trigger body\ntrigger[lazy]: TEXT {json.dumps(opening)}\ntail: TEXT\nTEXT: /(.|\\n)*/")
        return self.lark("\n".join(["%llguidance {}", f"start: {start}", *rules]))

    def _constraint(self, grammar: str) -> GrammarConstraint:
        size = len(grammar.encode("utf-8", "replace"))
        if size > MAX_GRAMMAR_BYTES:
            raise GrammarError(f"the grammar has {size} bytes; the limit is {MAX_GRAMMAR_BYTES}")
        with self._lock:
            matcher = self._compiled.get(grammar)
            if matcher is None:
                matcher = LLMatcher(self._tokenizer, grammar, limits=_LIMITS, log_level=0)
                if matcher.is_error():
                    raise GrammarError(f"the grammar cannot be used: {_first_line(matcher.get_error())}")
                self._compiled[grammar] = matcher
                if len(self._compiled) > _KEPT:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(grammar)
            return GrammarConstraint(matcher.deep_copy(), self._rows, self._ends, self._starts)


class GrammarConstraint:
    """State of one answer (see `Constraint`)."""

    def __init__(self, matcher: LLMatcher, rows: int, ends: Sequence[int], starts: _Starts) -> None:
        self._matcher, self._starts = matcher, starts
        self._rows = rows
        self._only_ends = torch.zeros(rows, dtype=torch.bool)
        self._only_ends[list(ends)] = True

    def allowed(self) -> Tensor:
        """(V,) bool. Where the grammar is exhausted, or beyond its limits of time and memory, only the end is."""
        if self._matcher.is_stopped():
            return self._only_ends
        mask = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8)[: self._rows] > 0
        found = int(mask.count_nonzero())
        if found == 1 and 0 < len(forced := self._matcher.compute_ff_tokens()) <= _UNSETTLED:
            # The library knows what comes next, but not what after it, which decides how the model would spell both.
            mask[[token for token in self._starts(forced) if self._matcher.validate_tokens([token]) == 1]] = True
        return mask if found else self._only_ends

    def advance(self, token: int) -> None:
        self._matcher.consume_token(token)


def _call_body(name: str, schema: Mapping[str, Any], form: CallForm) -> str:
    """What follows the opening mark of a call."""
    before, after = form.name(name), form.closing
    ending = f" {json.dumps(after)}" if after else ""
    return f"{json.dumps(before)} %json {json.dumps(_checked(schema))}{ending}"


def _schema_grammar(schema: Mapping[str, Any]) -> str:
    try:
        return LLMatcher.grammar_from_json_schema(dict(_checked(schema)))
    except ValueError as error:
        raise GrammarError(f"the schema cannot be used: {_first_line(str(error))}") from error


def _checked(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of bounded depth, for the compiler recurses, and with one way to space it."""
    level: list[Any] = [schema]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, Mapping) else item if isinstance(item, list) else ())
        ]
        if not level:
            return {**schema, "x-guidance": _SPACING}
    raise GrammarError(f"the schema is nested deeper than {MAX_DEPTH} levels")


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:200] if text.strip() else "unknown reason"
