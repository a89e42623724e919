"""What is shown: answers piece by piece, JSON, and one-line complaints. Answers go to stdout, all else to stderr."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clearsight.vlm import Reply

OFFICIAL = "Qwen/Qwen2-VL-2B-Instruct"
NANO_NOTE = (
    "note: nano, the model in the box, reads short printed words and names plain coloured shapes, with many mistakes;"
    f" it knows nothing of photographs, scenes, handwriting or other languages. For those: --model {OFFICIAL} (a 4.4 GB"
    " download). `clearsight info nano` has its measured accuracy. (Shown once.)"
)


def complain(error: Exception) -> None:
    print("clearsight:", " ".join(str(error).split()), file=sys.stderr)


def note_nano(model: str) -> None:
    """Say once what nano cannot do. Where the state folder cannot be written it is said each time."""
    if model != "nano":
        return
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    seen = Path(state).expanduser() / "clearsight" / "nano-note-shown"
    try:
        if seen.exists():
            return
        seen.parent.mkdir(parents=True, exist_ok=True)
        seen.touch()
    except OSError:
        pass
    print(NANO_NOTE, file=sys.stderr)


def show(text: str) -> None:
    """Write a piece of an answer at once. Control characters that a picture could talk a model into are left out."""
    print("".join(c for c in text if c.isprintable() or c in "\n\t"), end="", flush=True)


def show_end(reply: Reply) -> None:
    """Say it when an answer did not end by itself."""
    print(flush=True)
    if reply.finish_reason == "length":
        print(f"(cut after {reply.usage.completion_tokens} tokens; see --max-tokens)", file=sys.stderr)
    elif reply.finish_reason == "repetition":
        print("(ended because it kept repeating itself)", file=sys.stderr)


def show_json(data: dict[str, Any]) -> None:
    print(json.dumps(data, ensure_ascii=False, indent=2))


def show_tree(data: dict[str, Any], indent: str = "") -> None:
    for key, value in data.items():
        if isinstance(value, dict):
            print(f"{indent}{key.replace('_', ' ')}:")
            show_tree(value, indent + "  ")
        else:
            shown = (
                f"{value:,}"
                if isinstance(value, int)
                else ", ".join(map(str, value))
                if isinstance(value, list)
                else value
            )
            print(f"{indent}{key.replace('_', ' ')}: {shown}")
