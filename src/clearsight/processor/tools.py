"""Tools as text: how they are announced, called and answered, and how calls are read back (facts, 8.5 and 8.6)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from clearsight.messages import MessageError, Tool, ToolCall

FORMATS = ("hermes", "function")

CALL_START, CALL_END = "<tool_call>", "</tool_call>"
FUNCTION, ARGS, RESULT, RETURN = (f"✿{word}✿" for word in ("FUNCTION", "ARGS", "RESULT", "RETURN"))


def check_format(name: str) -> str:
    if name not in FORMATS:
        raise MessageError(f"tool_format is {name!r}; the formats are {' and '.join(FORMATS)}")
    return name


def announce(tools: Sequence[Tool], tool_format: str) -> str:
    """What follows the system text when there are tools, with the blank line between."""
    return "\n\n" + (_announce_hermes if tool_format == "hermes" else _announce_function)(tools)


def _announce_hermes(tools: Sequence[Tool]) -> str:
    lines = "\n".join(json.dumps(_signature(tool), ensure_ascii=False) for tool in tools)
    return (
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n"
        f"<tools>\n{lines}\n</tools>\n\n"
        "For each function call, return a json object with function name and arguments within "
        f"{CALL_START}{CALL_END} XML tags:\n"
        f'{CALL_START}\n{{"name": <function-name>, "arguments": <args-json-object>}}\n{CALL_END}'
    )


def _signature(tool: Tool) -> dict[str, object]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def _announce_function(tools: Sequence[Tool]) -> str:
    shown = "\n\n".join(
        f"### {tool.name}\n\n{tool.name}: {tool.description} Parameters: "
        f"{json.dumps(dict(tool.parameters), ensure_ascii=False)} Format the arguments as a JSON object."
        for tool in tools
    )
    names = ",".join(tool.name for tool in tools)
    return (
        f"# Tools\n\n## You have access to the following tools:\n\n{shown}\n\n"
        "## When you need to call a tool, please insert the following command in your reply, "
        "which can be called zero or multiple times according to your needs:\n\n"
        f"{FUNCTION}: The tool to use, should be one of [{names}]\n{ARGS}: The input of the tool\n"
        f"{RESULT}: Tool results\n{RETURN}: Reply based on tool results. Images need to be rendered as ![](url)"
    )


def call_text(call: ToolCall, tool_format: str) -> str:
    """A call as the model writes it."""
    if tool_format == "function":
        return f"{FUNCTION}: {call.name}\n{ARGS}: {call.arguments}"
    arguments = json.dumps(json.loads(call.arguments), ensure_ascii=False)
    return f'{CALL_START}\n{{"name": {json.dumps(call.name)}, "arguments": {arguments}}}\n{CALL_END}'


def stop_texts(tool_format: str) -> tuple[str, ...]:
    """Where an answer must end because the result of its call is not the model's to write."""
    return (RESULT, RETURN) if tool_format == "function" else ()


def read_call(body: str, tool_format: str) -> ToolCall | None:
    """The call that stands between its marks, or None if it is none."""
    return _read_function(body) if tool_format == "function" else _read_hermes(body)


_BARE_POINT = re.compile(r"(?<=[:,\[])\s*(\(\s*-?\d+\s*,\s*-?\d+\s*\))(?=\s*[,}\]])")


def _quote_points(text: str) -> str:
    """Points as bare tuples, which the paper's body text prints and JSON does not know, as texts (facts, 8.2)."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return _BARE_POINT.sub(r' "\1"', text)
    return text


def _read_hermes(body: str) -> ToolCall | None:
    try:
        data = json.loads(_quote_points(body))
        name, arguments = data["name"], data.get("arguments", {})
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return None
        return ToolCall(name, json.dumps(arguments, ensure_ascii=False))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _read_function(body: str) -> ToolCall | None:
    name, mark, arguments = body.partition(f"{ARGS}:")
    if not mark:
        return None
    try:
        return ToolCall(name.strip(), _quote_points(arguments[: arguments.rfind("}") + 1].strip()) or "{}")
    except MessageError:
        return None
