"""A model reads a picture and calls a tool with what it read: `python examples/tools.py [--server URL] [--model NAME]`.

Works with any model. The call is held to the tool's schema while it is written, so it is always a call that can be
made; whether it is the right one is up to the model.
"""

from __future__ import annotations

import argparse
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PRICES = {"bread": "3.20", "coffee": "2.40", "tea": "1.90"}
TOOL = {
    "type": "function",
    "function": {
        "name": "price_of",
        "description": "What the thing named on a sign costs",
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": "string", "maxLength": 12, "description": "the word on the sign"}},
            "required": ["word"],
        },
    },
}
Ask = Callable[[list[dict[str, Any]], dict[str, Any]], dict[str, Any]]


def price_of(word: str) -> str:
    return PRICES.get(word.strip().lower(), f"there is no price for {word!r}")


def ask_here(name: str) -> Ask:
    """Answers of a model loaded here, as chat messages."""
    from clearsight import VLM

    vlm = VLM.load(name)

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--server", help="address of a running `clearsight serve`")
    parser.add_argument("--picture", type=Path, default=HERE / "sign.png")
    args = parser.parse_args()
    ask = ask_server(args.server, args.model) if args.server else ask_here(args.model)

    content = [picture(args.picture), {"type": "text", "text": "What does the thing on this sign cost?"}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    said = ask(messages, {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False})
    messages.append(said)
    for call in said.get("tool_calls", ()):
        arguments = json.loads(call["function"]["arguments"])
        result = price_of(**arguments)
        print(f"call:   {call['function']['name']}({arguments})\nresult: {result}")
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    print("answer:", ask(messages, {"tools": [TOOL], "tool_choice": "none"})["content"])


if __name__ == "__main__":
    main()
