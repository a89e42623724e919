"""Reading an answer while it is made: stop strings and tool calls, each linear and blind to how the text is cut."""

from __future__ import annotations

from clearsight.messages import ToolCall
from clearsight.processor.tools import CALL_END, CALL_START, FUNCTION, read_call


def overlap(text: str, mark: str) -> int:
    """Length of the longest end of `text` that begins `mark` without being all of it."""
    return next((n for n in range(min(len(text), len(mark) - 1), 0, -1) if mark.startswith(text[-n:])), 0)


class StopFilter:
    """Holds back text that might be the start of a stop string; cuts the answer before the first that completes."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Text that is now safe to show."""
        self._held += text
        found = [at for at in map(self._held.find, self._stops) if at >= 0]
        if found:
            self.stopped = True
            safe, self._held = self._held[: min(found)], ""
            return safe
        keep = max((overlap(self._held, stop) for stop in self._stops), default=0)
        safe, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return safe

    def finish(self) -> str:
        """What was held back when no stop string came."""
        held, self._held = self._held, ""
        return held


class CallParser:
    """Splits an answer into text and tool calls. What turns out to be no call comes out as the text it is.

    The one line break before a call belongs to the call's form (facts, 8.6). Text that may begin a call is held back.
    """

    def __init__(self, tool_format: str) -> None:
        self._format = tool_format
        self._opening = f"{FUNCTION}:" if tool_format == "function" else CALL_START
        self._closing = f"{FUNCTION}:" if tool_format == "function" else CALL_END
        self._held = ""
        self._before = ""  # the line break in front of the call being read
        self._body: list[str] | None = None
        self._tail = ""

    def push(self, text: str) -> list[str | ToolCall]:
        """What became certain: text and calls in order."""
        found: list[str | ToolCall] = []
        while text:
            text = self._read_text(text, found) if self._body is None else self._read_body(text, found)
        return found

    def finish(self) -> list[str | ToolCall]:
        """What was held back, at the end of the answer."""
        found: list[str | ToolCall] = []
        if self._body is not None:
            # The older format has no closing mark, so its last call ends with the answer.
            self._close("".join(self._body), "", found)
        elif self._held:
            found.append(self._held)
        self._held = ""
        return found

    def _read_text(self, text: str, found: list[str | ToolCall]) -> str:
        text = self._held + text
        at = text.find(self._opening)
        if at >= 0:
            self._before = "\n" if text[:at].endswith("\n") else ""
            if shown := text[: at - len(self._before)]:
                found.append(shown)
            self._held, self._body, self._tail = "", [], ""
            return text[at + len(self._opening) :]
        keep = max(overlap(text, self._opening), overlap(text, "\n" + self._opening))
        if shown := text[: len(text) - keep]:
            found.append(shown)
        self._held = text[len(text) - keep :]
        return ""

    def _read_body(self, text: str, found: list[str | ToolCall]) -> str:
        """Collect a call up to its closing mark; only what is new, and a mark's length before it, is searched."""
        assert self._body is not None
        searched = self._tail + text
        at = searched.find(self._closing)
        self._body.append(text)
        if at < 0:
            self._tail = searched[-(len(self._closing) - 1) :]
            return ""
        rest = searched[at + len(self._closing) :]
        body = "".join(self._body)
        end = len(body) - len(rest) - len(self._closing)
        if self._format == "function":
            # Its closing mark is the opening of the next call.
            self._close(body[:end], "", found)
            return self._opening + rest
        self._close(body[:end], self._closing, found)
        return rest

    def _close(self, body: str, closing: str, found: list[str | ToolCall]) -> None:
        complete = bool(closing) or self._format == "function"
        call = read_call(body, self._format) if complete else None
        found.append(call or self._before + self._opening + body + closing)
        self._body = None
