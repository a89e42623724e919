"""The tool loop: ask the model, run what it calls, show it the results, until it answers or a limit is reached."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from clearsight.agent.chat import Answer, Chat, ChatError
from clearsight.agent.events import Answered, Event, Finished, Returned
from clearsight.agent.limits import AgentLimits, Budget
from clearsight.agent.results import Result, failure
from clearsight.agent.tools import ToolLike, call_bounded, gather_tools
from clearsight.agent.trajectory import TrajectoryWriter
from clearsight.messages import Image, Message, MessageError, Part, Text, ToolCall

CALL_MARKS = ("<tool_call>", "✿FUNCTION✿")
"""Where either tool format begins a call (facts, 8.5 and 8.6): text that still holds one is a call gone wrong."""


class Agent:
    """A model with tools.

    >>> from clearsight.agent.chat import Said
    >>> def double(number: int) -> int: return 2 * number
    >>> class Model:
    ...     def chat(self, messages, **options):
    ...         if messages[-1].role == "tool":
    ...             return Said("It is " + messages[-1].parts[0].text)
    ...         return Said("", [ToolCall("double", '{"number": 21}', "1")])
    >>> Agent(Model(), [double]).ask("What is twice 21?").text
    'It is 42'
    """

    def __init__(
        self,
        chat: Chat,
        tools: Iterable[ToolLike] = (),
        *,
        system: str | None = None,
        limits: AgentLimits = AgentLimits(),
        **options: Any,
    ) -> None:
        """options: go to every `chat.chat`, as tool_format="function" does for a VLM. Raises ValueError."""
        self._chat, self._system, self._limits, self._options = chat, system, limits, options
        self._tools = gather_tools(tools)

    def ask(self, task: str, pictures: Sequence[Any] = (), *, record: str | Path | None = None) -> Finished:
        """Run to the end."""
        for event in self.run(task, pictures, record=record):
            if isinstance(event, Finished):
                return event
        raise AssertionError("a run ends with Finished")

    def run(self, task: str, pictures: Sequence[Any] = (), *, record: str | Path | None = None) -> Iterator[Event]:
        """Every step as it happens, Finished last. record: where to write the trajectory.

        Ctrl-C and closing the iterator end the run at once and leave the trajectory whole.
        """
        writer = None if record is None else TrajectoryWriter(record)
        run = _Run(self._chat, self._tools, self._limits, self._options, writer)
        try:
            yield from run.go(self._opening(task, pictures))
        except (KeyboardInterrupt, GeneratorExit):
            run.finish("interrupted", "the run was interrupted")
            raise
        finally:
            if writer is not None:
                writer.close()

    def _opening(self, task: str, pictures: Sequence[Any]) -> list[Message]:
        system = [] if self._system is None else [Message("system", (Text(self._system),))]
        return [*system, Message("user", (*map(Image, pictures), Text(task)))]


class _Run:
    """One conversation."""

    def __init__(
        self,
        chat: Chat,
        tools: dict[str, Any],
        limits: AgentLimits,
        options: dict[str, Any],
        writer: TrajectoryWriter | None,
    ) -> None:
        self._chat, self._tools, self._limits, self._options, self._writer = chat, tools, limits, options, writer
        self._specs = [tool.spec for tool in tools.values()]
        self._budget = Budget(limits)
        self._messages: list[Message] = []
        self._mistakes = 0
        self._seen: Counter[tuple[str, str, str]] = Counter()
        self._text = ""
        self._ended = False

    def go(self, opening: Sequence[Message]) -> Iterator[Event]:
        if self._writer is not None:
            self._writer.start(self._specs, {})
        for message in opening:
            self._add(message)
        while True:
            if end := self._over():
                yield self.finish(*end)
                return
            try:
                begin = time.monotonic()
                answer = self._chat.chat(tuple(self._messages), tools=self._specs, **self._options)
            except ChatError as error:
                yield self.finish("model", str(error))
                return
            except MessageError as error:
                self._note_unreadable(str(error))
                continue
            yield self._take(answer, time.monotonic() - begin)
            if answer.tool_calls:
                yield from self._calls(answer.tool_calls)
            elif any(mark in answer.text for mark in CALL_MARKS):
                self._note_unreadable("the arguments must be one JSON object")
            else:
                yield self.finish("answered", "the model answered")
                return

    def finish(self, reason: str, why: str) -> Finished:
        end = Finished(reason, why, self._text, self._budget.steps, self._budget.tokens, self._budget.seconds)
        if self._writer is not None and not self._ended:
            self._writer.end({"reason": reason, "why": why, "steps": end.steps, "tokens": end.tokens})
        self._ended = True
        return end

    def _over(self) -> tuple[str, str] | None:
        if self._mistakes >= self._limits.mistakes:
            return "mistakes", f"{self._mistakes} answers in a row achieved nothing"
        if self._seen and max(self._seen.values()) >= self._limits.repeats:
            name = self._seen.most_common(1)[0][0][0]
            return "repetition", f"the model called {name} {self._limits.repeats} times with the same result"
        return self._budget.exhausted()

    def _take(self, answer: Answer, seconds: float) -> Answered:
        self._budget.spend(answer.usage)
        self._text = answer.text
        said: list[Part] = [Text(answer.text)] if answer.text else []
        self._add(Message("assistant", (*said, *answer.tool_calls)))
        usage = answer.usage
        calls = tuple(answer.tool_calls)
        return Answered(self._budget.steps, answer.text, calls, seconds, usage.prompt_tokens, usage.completion_tokens)

    def _calls(self, calls: Sequence[ToolCall]) -> Iterator[Event]:
        failed = 0
        for index, call in enumerate(calls):
            begin = time.monotonic()
            result = self._call(call) if index < self._limits.calls_per_step else self._too_many(len(calls))
            failed += result.failed
            self._seen[call.name, call.arguments, result.text] += 1
            self._add(Message("tool", result.parts, call.id))
            yield Returned(self._budget.steps, call, result, time.monotonic() - begin)
        self._mistakes = self._mistakes + 1 if failed == len(calls) else 0

    def _call(self, call: ToolCall) -> Result:
        tool = self._tools.get(call.name)
        if tool is None:
            return failure(f"there is no tool {call.name!r}; the tools are {', '.join(self._tools) or 'none'}")
        left = max(0.001, self._limits.seconds - self._budget.seconds)
        seconds = min(self._limits.tool_seconds, left)
        return call_bounded(tool, json.loads(call.arguments), seconds, self._limits.result_chars)

    def _too_many(self, count: int) -> Result:
        return failure(f"{count} calls in one answer; the limit is {self._limits.calls_per_step}")

    def _note_unreadable(self, reason: str) -> None:
        self._mistakes += 1
        self._add(Message("user", (Text(f"Your call could not be read: {reason}. Please call again."),)))

    def _add(self, message: Message) -> None:
        self._messages.append(message)
        if self._writer is not None:
            self._writer.add(message)
