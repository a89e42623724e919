"""From token events to what a reader sees: text, tool calls, boxes and probabilities. No input or output of its own."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from clearsight.inputs import SamplingParams, TokenEvent
from clearsight.messages import ToolCall
from clearsight.processor import MediaUse, Prepared, Tokenizer
from clearsight.processor.grounding import Annotation, GroundingReader
from clearsight.processor.streaming import CallParser, StopFilter
from clearsight.processor.tools import stop_texts


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request; end tokens are not counted as answer. cached_tokens: those of the prompt that an earlier
    request had left computed."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of the answer, as bytes, with the natural logarithm of its probability. top: the best alternatives'."""

    raw: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()

    @property
    def text(self) -> str:
        return self.raw.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Delta:
    """What one token added: text that is now certain, a finished tool call (index: its number), probabilities."""

    text: str = ""
    tool_call: ToolCall | None = None
    index: int = 0
    tokens: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished answer. finish_reason: "stop", "length", "repetition" or "tool_calls".

    media: what was used of each picture. annotations: boxes and points in source pixels. logprobs: if asked for.
    """

    text: str
    finish_reason: str
    usage: Usage
    media: tuple[MediaUse, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class AnswerReader:
    """Reads one answer. Push every event, then finish; the deltas add up to the reply."""

    def __init__(
        self, tokenizer: Tokenizer, prepared: Prepared, params: SamplingParams, tool_format: str | None = None
    ) -> None:
        """tool_format: how calls are written, None if the answer is to be taken as text alone."""
        self._tokenizer = tokenizer
        self._prepared = prepared
        self._decoder = tokenizer.stream()
        stops = params.stop if tool_format is None else params.stop + stop_texts(tool_format)
        self._stops = StopFilter(stops)
        self._calls = None if tool_format is None else CallParser(tool_format)
        self._grounding = GroundingReader(tokenizer, prepared.media)
        self._texts: list[str] = []
        self._tool_calls: list[ToolCall] = []
        self._logprobs: list[TokenLogprob] = []
        self._made = self._cached = 0
        self._reason = "stop"
        self._finished = False

    @property
    def stopped(self) -> bool:
        """Whether a stop string has completed: the request may be cancelled."""
        return self._stops.stopped

    def push(self, event: TokenEvent) -> list[Delta]:
        """What this event makes certain; nothing more after a stop string."""
        self._cached = event.cached
        if event.finish_reason == "stop" or self.stopped:
            return []
        self._made += 1
        self._reason = event.finish_reason or "stop"
        logprobs = self._logprob(event)
        text = self._decoder.push(event.token)
        self._grounding.push(event.token, text)
        deltas = self._read(self._stops.push(text))
        if self.stopped:
            self._reason = "stop"
        return [*deltas, Delta(tokens=logprobs)] if logprobs else deltas

    def finish(self) -> list[Delta]:
        """What was held back until the end."""
        deltas: list[Delta] = []
        if not self.stopped:
            text = self._stops.push(self._decoder.finish())
            deltas = self._read(text if self.stopped else text + self._stops.finish())
        if self._calls is not None:
            deltas += self._take(self._calls.finish())
        self._finished = True
        return deltas

    @property
    def reply(self) -> Reply:
        """The whole answer, once finished."""
        if not self._finished:
            raise RuntimeError("the answer was closed before it was complete")
        reason = "tool_calls" if self._tool_calls and self._reason == "stop" else self._reason
        return Reply(
            text="".join(self._texts),
            finish_reason=reason,
            usage=Usage(self._prepared.inputs.ids.shape[0], self._made, self._cached),
            media=self._prepared.media,
            tool_calls=tuple(self._tool_calls),
            annotations=tuple(self._grounding.found),
            logprobs=tuple(self._logprobs),
        )

    def _read(self, text: str) -> list[Delta]:
        return self._take([text] if self._calls is None else self._calls.push(text))

    def _take(self, pieces: Iterable[str | ToolCall]) -> list[Delta]:
        deltas = []
        for piece in pieces:
            if isinstance(piece, ToolCall):
                call = ToolCall(piece.name, piece.arguments, f"call_{secrets.token_hex(12)}")
                deltas.append(Delta(tool_call=call, index=len(self._tool_calls)))
                self._tool_calls.append(call)
            elif piece:
                deltas.append(Delta(text=piece))
                self._texts.append(piece)
        return deltas

    def _logprob(self, event: TokenEvent) -> tuple[TokenLogprob, ...]:
        if event.logprob is None:
            return ()
        top = tuple((self._tokenizer.token_bytes(token), logprob) for token, logprob in event.top)
        self._logprobs.append(TokenLogprob(self._tokenizer.token_bytes(event.token), event.logprob, top))
        return (self._logprobs[-1],)


def read_answer(reader: AnswerReader, events: Sequence[TokenEvent]) -> Reply:
    """The reply that a finished list of events makes."""
    for event in events:
        reader.push(event)
        if reader.stopped:
            break
    reader.finish()
    return reader.reply
