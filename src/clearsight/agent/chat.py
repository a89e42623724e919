"""What an agent needs of a model: messages and tools in, one answer out. VLM has this form; others get an adapter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from clearsight.agent.plain import plain_messages, plain_tools
from clearsight.messages import Message, Tool, ToolCall


class ChatError(RuntimeError):
    """The model cannot be asked (its server is gone, or refuses); one sentence."""


class Usage(Protocol):
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...


class Answer(Protocol):
    """text: without the calls. finish_reason: "stop", "length", "tool_calls" or another word of the model's side."""

    @property
    def text(self) -> str: ...
    @property
    def tool_calls(self) -> Sequence[ToolCall]: ...
    @property
    def usage(self) -> Usage: ...
    @property
    def finish_reason(self) -> str: ...


class Chat(Protocol):
    """Anything that answers a conversation. options: at least `tools`, a sequence of Tool."""

    def chat(self, messages: Sequence[Message], **options: Any) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Tokens:
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """An answer as a plain value, for adapters and scripted policies."""

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    usage: Tokens = Tokens()
    finish_reason: str = "stop"


class OpenAIChat:
    """Any client with OpenAI's form (`client.chat.completions.create`), the official one among them.

    settings: further arguments of every request. The protocol has no pictures in tool results, so they follow in a
    user turn, unless pictures_in_results says that the server takes them where they belong (Clearsight's does).
    """

    def __init__(self, client: Any, model: str, *, pictures_in_results: bool = False, **settings: Any) -> None:
        self._client, self._model, self._settings = client, model, settings
        self._pictures_in_results = pictures_in_results

    def chat(self, messages: Sequence[Message], *, tools: Iterable[Tool] = (), **options: Any) -> Said:
        """Raises ChatError when the client raises, whatever it raises: its error classes are not ours to know."""
        wishes = {**self._settings, **options}
        if announced := plain_tools(tools):
            wishes["tools"] = announced
        turns = plain_messages(messages, pictures_in_results=self._pictures_in_results)
        try:
            reply = self._client.chat.completions.create(model=self._model, messages=turns, **wishes)
            choice = reply.choices[0]
        except Exception as error:
            raise ChatError(f"the model cannot be asked ({type(error).__name__}: {error})") from error
        usage = reply.usage
        return Said(
            choice.message.content or "",
            tuple(_call(call) for call in choice.message.tool_calls or ()),
            Tokens(usage.prompt_tokens, usage.completion_tokens) if usage else Tokens(),
            choice.finish_reason or "stop",
        )


def _call(call: Any) -> ToolCall:
    """Raises MessageError if the arguments are no JSON object; the loop hands that back to the model."""
    return ToolCall(call.function.name, call.function.arguments or "{}", call.id or "")
