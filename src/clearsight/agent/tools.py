"""Python functions as tools: the schema from type hints and docstring, arguments checked before the call."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from clearsight.agent.results import Result, failure, result_of
from clearsight.messages import Tool


class ToolError(Exception):
    """Raised by a tool to tell the model, in its own words, what was wrong."""


class AgentTool(Protocol):
    """A tool that can be called. spec: what the model is told. call: raises ToolError to tell the model why."""

    @property
    def spec(self) -> Tool: ...

    def call(self, arguments: Mapping[str, Any]) -> Any: ...


class ToolSource(Protocol):
    """Something that offers several tools, as an MCP server does."""

    def tools(self) -> Sequence[AgentTool]: ...


ToolLike = AgentTool | ToolSource | Callable[..., Any]


class FunctionTool:
    """A plain or async function.

    >>> def area(width: float, height: float = 1.0) -> float:
    ...     '''Area of a rectangle.
    ...
    ...     Args:
    ...         width: in metres
    ...     '''
    ...     return width * height
    >>> sorted(FunctionTool(area).spec.parameters["properties"])
    ['height', 'width']
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        about, described = _docstring(inspect.getdoc(function) or "")
        self._model = _arguments_model(function, described)
        self.spec = Tool(function.__name__, about, _schema(self._model))

    def call(self, arguments: Mapping[str, Any]) -> Any:
        try:
            checked = self._model.model_validate(dict(arguments))
        except ValidationError as error:
            found = ((".".join(map(str, one["loc"])), one["msg"]) for one in error.errors())
            raise ToolError("; ".join(f"{place}: {message}" for place, message in found)) from error
        values = {name: getattr(checked, name) for name in self._model.model_fields}
        result = self._function(**values)
        return asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result


def gather_tools(tools: Iterable[ToolLike]) -> dict[str, AgentTool]:
    """By name. Raises ValueError for a name that comes twice or something that is no tool."""
    found: dict[str, AgentTool] = {}
    for item in tools:
        for tool in _expand(item):
            if tool.spec.name in found:
                raise ValueError(f"two tools are named {tool.spec.name!r}")
            found[tool.spec.name] = tool
    return found


def _expand(item: Any) -> Sequence[AgentTool]:
    if hasattr(item, "spec") and hasattr(item, "call"):
        return (item,)
    if hasattr(item, "tools"):
        return tuple(item.tools())
    if callable(item):
        return (FunctionTool(item),)
    raise ValueError(f"a tool must be a function or have a spec and a call; {type(item).__name__} has neither")


def call_bounded(tool: AgentTool, arguments: Mapping[str, Any], seconds: float, max_chars: int) -> Result:
    """A call's result; whatever goes wrong in it becomes a failed one.

    A call that takes too long is left behind in its thread: Python cannot end it, but the run goes on.
    """
    box: list[Result] = []

    def work() -> None:
        try:
            box.append(result_of(tool.call(arguments), max_chars))
        except ToolError as error:
            box.append(failure(str(error)))
        except Exception as error:
            box.append(failure(f"{type(error).__name__}: {error}"))

    thread = threading.Thread(target=work, name=f"tool {tool.spec.name}", daemon=True)
    thread.start()
    thread.join(seconds)
    return box[0] if box else failure(f"{tool.spec.name} gave no result within {seconds:g} seconds")


async def _awaited(value: Any) -> Any:
    return await value


def _arguments_model(function: Callable[..., Any], described: Mapping[str, str]) -> type[BaseModel]:
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ValueError(f"parameter {name!r} of {function.__name__} cannot be given by name")
        if name not in hints:
            raise ValueError(f"parameter {name!r} of {function.__name__} has no type hint")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints[name], Field(default, description=described.get(name)))
    return create_model(function.__name__, __config__=ConfigDict(extra="forbid"), **fields)


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """Without the titles that pydantic adds: they cost tokens and say nothing new."""
    schema = model.model_json_schema()
    for part in (schema, *schema.get("properties", {}).values()):
        part.pop("title", None)
    return {"type": "object", "properties": {}, **schema}


_PARAMETER = re.compile(r"^(?::param\s+)?(\w+)(?:\s*\([^)]*\))?:\s*(.+)$")


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """The first paragraph, and what is said of each parameter (an "Args:" section, or ":param name:" lines)."""
    about, _, rest = text.partition("\n\n")
    described: dict[str, str] = {}
    inside = False
    for line in rest.splitlines():
        bare = line.strip()
        if bare in ("Args:", "Arguments:", "Parameters:"):
            inside = True
        elif inside and bare and not line.startswith((" ", "\t")):
            inside = False
        elif (inside or bare.startswith(":param")) and (match := _PARAMETER.match(bare)):
            described[match[1]] = match[2]
    return " ".join(about.split()), described
