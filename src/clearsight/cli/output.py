"""What is shown: answers piece by piece, JSON, and one-line complaints. Answers go to stdout, all else to stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clearsight.cli.remote import RemoteStream
    from clearsight.processor import MediaUse
    from clearsight.vlm import Reply, Stream

OFFICIAL = "Qwen/Qwen2-VL-2B-Instruct"
NANO_NOTE = (
    "note: nano, the model in the box, reads print and plain shapes, documents, app screens and clips like those that"
    " it learned from, with mistakes; it knows nothing of photographs, scenes or handwriting. For those:"
    f" --model {OFFICIAL} (a 4.4 GB download). `clearsight info nano` has its measured accuracy. (Shown once.)"
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


def video_line(use: MediaUse) -> str:
    """What is looked at of a video, in one line."""
    length = "" if use.duration is None else f" of {_clock(use.duration)}"
    spread = ""
    if use.times is not None and len(use.times) > 1:
        spread = f", one each {(use.times[-1] - use.times[0]) / (len(use.times) - 1):.2f} s"
    sides = [" x ".join(map(str, pair)) for pair in (use.original_size, use.size)]
    line = (
        f"{use.name}: {sides[0]} pixels{length}, {use.frames} frames used{spread}, at {sides[1]}, {use.tokens} tokens"
    )
    return line if not use.note else f"{line} ({use.note})"


def note_videos(stream: Stream | RemoteStream) -> None:
    """Say beside the answer what was looked at. A server tells it only at the end, in its reply."""
    prepared = getattr(stream, "prepared", None)
    for use in prepared.media if prepared is not None else ():
        if use.kind == "video":
            print(f"({video_line(use)})", file=sys.stderr)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
    )


class FrameBar:
    """A bar on a terminal while a video is read that takes longer than a moment; nothing elsewhere. On stderr."""

    def __init__(self, patience: float = 0.5) -> None:
        self._live = sys.stderr.isatty()
        self._patience = patience
        self._begin = 0.0

    def show(self, name: str, done: int, total: int) -> None:
        """Frames read of those wanted."""
        if not self._live:
            return
        if done == 1:
            self._begin = time.monotonic()
        if time.monotonic() - self._begin > self._patience:
            end = "\r\033[K" if done == total else ""
            print(f"\r{bar(done, total)} {name}: frame {done} of {total}{end}", end="", file=sys.stderr, flush=True)


def bar(done: int, total: int) -> str:
    return ("█" * (30 * done // total)).ljust(30, "·")


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
