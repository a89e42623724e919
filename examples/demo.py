"""Ask nano, the model in the box, about the pictures beside this file, timed, and let it call a tool."""

from __future__ import annotations

import time
from pathlib import Path

import tools
from clearsight import VLM

HERE = Path(__file__).resolve().parent
QUESTIONS = (
    ("sign.png", "What does it say?"),
    ("circle.png", "What is this?"),
    ("circle.png", "What colour is the circle?"),
)


def main() -> None:
    vlm = VLM.load("nano")
    for name, question in QUESTIONS:
        print(f"\npicture:  examples/{name}\nquestion: {question}\nanswer:   ", end="", flush=True)
        begin = time.perf_counter()
        picture = {"type": "image", "image": str(HERE / name)}
        stream = vlm.stream([{"role": "user", "content": [picture, {"type": "text", "text": question}]}])
        for piece in stream:
            print(piece.replace("\n", "\n          "), end="", flush=True)
        (used,) = stream.reply.media
        seconds = time.perf_counter() - begin
        print(f"\n          ({used.tokens} picture tokens, {stream.reply.usage.total_tokens} in all, {seconds:.2f} s)")
    print(f"\npicture:  examples/weather.png, with a tool at hand\nquestion: {tools.WISH}")
    for line in tools.converse(tools.ask_here(vlm), HERE / "weather.png"):
        print(line)


if __name__ == "__main__":
    main()
