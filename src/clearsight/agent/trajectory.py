"""A run on disk: JSON lines with the pictures inside, written as it happens, read back, replayed, turned into data."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from clearsight.agent.chat import ChatError, Said, Tokens
from clearsight.agent.plain import plain_messages, plain_tools
from clearsight.messages import Message, Text, Tool, ToolCall, parse_messages, parse_tools

FORM = 1
MAX_LINE = 256 * 2**20


class TrajectoryError(ValueError):
    """A trajectory file cannot be read; one sentence."""


class TrajectoryWriter:
    """Appends a line for the head, one for each message and one for the end; each is on disk when the call returns.

    A run that dies leaves a readable file without its last line.
    """

    def __init__(self, path: str | Path) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = open(path, "w", encoding="utf-8")  # noqa: SIM115  (lives as long as the run)

    def start(self, tools: Sequence[Tool], about: Mapping[str, Any]) -> None:
        self._line({"type": "start", "form": FORM, "tools": plain_tools(tools), "about": dict(about)})

    def add(self, message: Message, notes: Mapping[str, Any] | None = None) -> None:
        (turn,) = plain_messages([message])
        self._line({"type": "message", "message": turn, **({"notes": dict(notes)} if notes else {})})

    def end(self, about: Mapping[str, Any]) -> None:
        self._line({"type": "end", "about": dict(about)})

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> TrajectoryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _line(self, data: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(data, ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@dataclass(frozen=True, slots=True)
class Trajectory:
    """messages: in order. end: what the last line says, None for a run that was cut off."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    about: Mapping[str, Any]
    end: Mapping[str, Any] | None

    @property
    def calls(self) -> list[ToolCall]:
        return [part for message in self.messages for part in message.parts if isinstance(part, ToolCall)]


def read_trajectory(path: str | Path) -> Trajectory:
    """Raises TrajectoryError. A last line that was cut while being written is left out."""
    lines = list(_lines(Path(path)))
    if not lines or lines[0].get("type") != "start" or lines[0].get("form") != FORM:
        raise TrajectoryError(f"{path} does not begin as a trajectory of form {FORM} does")
    messages = parse_messages([line["message"] for line in lines if line["type"] == "message"])
    end = lines[-1].get("about") if lines[-1]["type"] == "end" else None
    return Trajectory(tuple(messages), parse_tools(lines[0]["tools"]), lines[0]["about"], end)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), ""), 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                if not line.endswith("\n"):
                    return
                raise TrajectoryError(f"{path}, line {number}: not JSON") from error


class RecordedChat:
    """Answers as a recorded run did, whatever it is shown: running an agent on it replays the run's calls."""

    def __init__(self, trajectory: Trajectory) -> None:
        self._turns = iter([message for message in trajectory.messages if message.role == "assistant"])

    def chat(self, messages: Sequence[Message], **options: Any) -> Said:
        """Raises ChatError after the last recorded answer."""
        turn = next(self._turns, None)
        if turn is None:
            raise ChatError("the recorded run has no further answer")
        text = "".join(part.text for part in turn.parts if isinstance(part, Text))
        calls = tuple(part for part in turn.parts if isinstance(part, ToolCall))
        return Said(text, calls, Tokens(), "tool_calls" if calls else "stop")


def training_sample(trajectory: Trajectory) -> dict[str, Any]:
    """One line of OpenAI-style training data: {"messages": [...], "tools": [...]}, pictures as data: addresses."""
    return {"messages": plain_messages(trajectory.messages), "tools": plain_tools(trajectory.tools)}


def write_training_data(paths: Iterable[str | Path], out: str | Path, *, only: str | None = None) -> int:
    """Trajectories as JSON lines of training samples; the number written. only: end reasons to keep, as "done"."""
    count = 0
    with open(out, "w", encoding="utf-8") as file:
        for path in paths:
            trajectory = read_trajectory(path)
            if only is None or (trajectory.end or {}).get("reason") == only:
                file.write(json.dumps(training_sample(trajectory), ensure_ascii=False) + "\n")
                count += 1
    return count
