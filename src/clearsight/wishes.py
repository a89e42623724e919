"""What a caller wishes of an answer's form (tools, response_format), turned into what the engine can hold it to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clearsight.engine import Constraint
from clearsight.engine.constraints import CallForm, GrammarError, Grammars
from clearsight.messages import MessageError, Tool
from clearsight.processor.tools import ARGS, CALL_END, CALL_START, FUNCTION

FORMS = {
    "hermes": CallForm(CALL_START, lambda name: f'\n{{"name": {json.dumps(name)}, "arguments": ', f"}}\n{CALL_END}"),
    "function": CallForm(f"{FUNCTION}:", lambda name: f" {name}\n{ARGS}: ", ""),
}
"""As `call_text` writes them (facts, 8.5 and 8.6)."""


def constraint_for(
    grammars: Callable[[], Grammars],
    tools: Sequence[Tool],
    tool_choice: str | Mapping[str, Any],
    several: bool,
    response_format: Mapping[str, Any] | None,
    tool_format: str,
) -> Constraint | None:
    """What the answer must obey, or None for free text. Raises MessageError or GrammarError."""
    chosen = _chosen(tools, tool_choice)
    schema = _schema_of(response_format)
    if chosen:
        schemas = {tool.name: _closed(tool.parameters) for tool in chosen}
        forced = tool_choice not in ("auto", "none")
        return grammars().tool_calls(schemas, forced=forced, several=several, form=FORMS[tool_format], otherwise=schema)
    if schema is not None:
        return grammars().json_schema(schema)
    if response_format is None or response_format.get("type") == "text":
        return None
    return _other_format(grammars(), response_format)


def _chosen(tools: Sequence[Tool], choice: str | Mapping[str, Any]) -> Sequence[Tool]:
    """The tools that may be called."""
    if isinstance(choice, Mapping):
        function = choice.get("function", choice)
        name = function.get("name") if isinstance(function, Mapping) else None
        named = [tool for tool in tools if tool.name == name]
        if not named:
            raise MessageError(f"tool_choice names {name!r}, which is none of the tools")
        return named
    if choice not in ("auto", "none", "required"):
        raise MessageError(f"tool_choice is {choice!r}; it must be auto, none, required or name a function")
    if choice == "required" and not tools:
        raise MessageError("tool_choice is 'required', but there are no tools")
    return () if choice == "none" else tools


def _schema_of(wish: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if wish is None or wish.get("type") not in ("json_object", "json_schema"):
        return None
    if wish["type"] == "json_object":
        return {"type": "object"}
    inner = wish.get("json_schema", wish)
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    if not isinstance(schema, Mapping):
        raise GrammarError("a response_format of type json_schema needs a schema")
    return _closed(schema)


_OPEN = frozenset(("additionalProperties", "patternProperties", "unevaluatedProperties", "allOf", "anyOf", "oneOf"))
_DEPTH = 32  # deeper schemas are refused where they are compiled


def _closed(schema: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """A schema whose objects have the properties it names and, unless it says otherwise, no more.

    JSON Schema would let a model add any others, and a weak one then never comes to the end.
    """
    found = dict(schema)
    if depth == _DEPTH:
        return found
    for key in ("properties", "$defs", "definitions"):
        if isinstance(found.get(key), Mapping):
            inner = found[key].items()
            found[key] = {name: _closed(item, depth + 1) if isinstance(item, Mapping) else item for name, item in inner}
    if "properties" in found and not _OPEN & found.keys():
        found["additionalProperties"] = False
    if isinstance(found.get("items"), Mapping):
        found["items"] = _closed(found["items"], depth + 1)
    return found


def _other_format(grammars: Grammars, wish: Mapping[str, Any]) -> Constraint:
    """The forms beyond the OpenAI protocol's own."""
    makers: dict[str, tuple[str, Callable[[Any], Constraint]]] = {
        "regex": ("pattern", grammars.regex),
        "choice": ("options", grammars.choice),
        "grammar": ("grammar", grammars.lark),
    }
    kind = wish.get("type")
    if kind not in makers:
        kinds = ", ".join(("text", "json_object", "json_schema", *makers))
        raise GrammarError(f"response_format is of type {kind!r}; the types are {kinds}")
    key, make = makers[kind]
    if key not in wish:
        raise GrammarError(f"a response_format of type {kind} needs {key!r}")
    return make(wish[key])
