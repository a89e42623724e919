"""Clearsight: the Qwen2-VL system from scratch. `VLM.load("nano").chat(messages)` looks at pictures and answers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clearsight.inputs import SamplingParams
    from clearsight.messages import Image, Message, Text, Video
    from clearsight.vlm import VLM, Reply, Stream

__version__ = "0.1.0"
__all__ = ["VLM", "Image", "Message", "Reply", "SamplingParams", "Stream", "Text", "Video", "__version__"]

# Names load on first use: importing torch takes seconds, which `clearsight --version` need not spend.
_HOMES = {
    "Image": "messages",
    "Message": "messages",
    "Reply": "vlm",
    "SamplingParams": "inputs",
    "Stream": "vlm",
    "Text": "messages",
    "VLM": "vlm",
    "Video": "messages",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
