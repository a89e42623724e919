"""A model reads a picture and calls a tool with what it read: `python examples/tools.py [--server URL] [--model NAME]`.

Works with any model. The call is held to the tool's schema while it is written, so it is always a call that can be
made; whether it is the right one is up to the model.
"""

from __future__ import annotations

import argparse
import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from clearsight import VLM

HERE = Path(__file__).resolve().parent
WISH = "How will the weather be there tomorrow?"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_forecast",
        "description": "",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "day": {"type": "string"}},
            "required": ["city", "day"],
        },
    },
}
Ask = Callable[[list[dict[str, Any]], dict[str, Any]], dict[str, Any]]


def get_forecast(city: str, day: str) -> dict[str, Any]:
    """A service would be asked here; this one always has the same weather."""
    return {"sky": "sunny", "high": 21}


def ask_here(vlm: VLM) -> Ask:
    """Answers of a model loaded here, as chat messages."""

    def ask(messages: list[dict[str, Any]], wishes: dict[str, Any]) -> dict[str, Any]:
        reply = vlm.chat(messages, **wishes)
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in reply.tool_calls
        ]
        return {"role": "assistant", "content": reply.text, **({"tool_calls": calls} if calls else {})}

    return ask


def ask_server(address: str, name: str) -> Ask:
    """The same through `clearsight serve`, with OpenAI's client."""
    from openai import OpenAI

    client = OpenAI(base_url=f"{address}/v1", api_key="none")

    def ask(messages: list[dict[str, Any]], wishes: dict[str, Any]) -> dict[str, Any]:
        answer = client.chat.completions.create(model=name, messages=messages, **wishes)  # type: ignore[call-overload]
        return answer.choices[0].message.model_dump(include={"role", "content", "tool_calls"}, exclude_none=True)

    return ask


def picture(path: Path) -> dict[str, Any]:
    data = base64.b64encode(path.read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def converse(ask: Ask, path: Path) -> Iterator[str]:
    """The wish about the picture, carried out: every call with its result, and the answer, as lines to print."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": [picture(path), {"type": "text", "text": WISH}]}]
    said = ask(messages, {"tools": [TOOL], "parallel_tool_calls": False})
    calls = said.get("tool_calls", ())
    messages.append(said)
    for call in calls:
        arguments = json.loads(call["function"]["arguments"])
        result = get_forecast(**arguments)
        yield f"call:     {call['function']['name']}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"
        yield f"result:   {json.dumps(result)}"
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": json.dumps(result)})
    if calls:
        said = ask(messages, {"tools": [TOOL]})
    yield f"answer:   {said['content'] or 'another call, which is not carried out here'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--server", help="address of a running `clearsight serve`")
    parser.add_argument("--picture", type=Path, default=HERE / "weather.png")
    args = parser.parse_args()
    if not args.picture.is_file():
        parser.error(f"{args.picture} is no file")
    ask = ask_server(args.server, args.model) if args.server else ask_here(VLM.load(args.model))
    for line in converse(ask, args.picture):
        print(line)


if __name__ == "__main__":
    main()
