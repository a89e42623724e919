"""Asking an OpenAI-compatible server instead of a model loaded here: the same messages, the same kind of stream."""

from __future__ import annotations

import base64
import functools
import json
import mimetypes
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import httpx

from clearsight.answer import Reply, Usage
from clearsight.inputs import Grid
from clearsight.media import DEFAULT_LIMITS
from clearsight.media.source import read_source
from clearsight.media.video import folder_pictures
from clearsight.messages import ToolCall
from clearsight.processor import MediaUse
from clearsight.processor.grounding import Annotation

# Writing the answer to a large picture may wait long for its first token; connecting may not.
_TIMEOUT = httpx.Timeout(600.0, connect=10.0)


class RemoteError(RuntimeError):
    """The server cannot be reached, refuses or breaks off; one sentence."""


class RemoteModel:
    """A server's model. name: what the server calls it, None for the first it offers."""

    def __init__(self, address: str, key: str | None = None, name: str | None = None) -> None:
        if not address.startswith(("http://", "https://")):
            raise RemoteError(f"the server's address must begin with http:// or https://, not {address!r}")
        self.address = address.rstrip("/").removesuffix("/v1")
        self._client = httpx.Client(headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=_TIMEOUT)
        self._name = name

    def __enter__(self) -> RemoteModel:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @functools.cached_property
    def name(self) -> str:
        """What the server calls the model. Raises RemoteError."""
        return self._first_model() if self._name is None else self._name

    def stream(
        self, messages: Iterable[Mapping[str, Any]], sampling: Mapping[str, Any], *, add_vision_id: bool = False
    ) -> RemoteStream:
        """Start an answer. sampling: what the user asked for; all else is left to the server.

        Raises RemoteError or MediaError.
        """
        body: dict[str, Any] = {"model": self.name, "messages": [_message(message) for message in messages]}
        body |= {"stream": True, "stream_options": {"include_usage": True}, **sampling}
        if add_vision_id:
            body["add_vision_id"] = True
        return RemoteStream(self._events(body))

    def _first_model(self) -> str:
        try:
            response = self._client.get(f"{self.address}/v1/models")
            _check(response)
            return str(response.json()["data"][0]["id"])
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        except (ValueError, LookupError, TypeError) as error:
            raise RemoteError(f"{self.address} does not answer as an OpenAI-compatible server") from error

    def _events(self, body: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        try:
            with self._client.stream("POST", f"{self.address}/v1/chat/completions", json=body) as response:
                if not response.is_success:
                    response.read()
                    _check(response)
                for line in response.iter_lines():
                    data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                    if data == "[DONE]":
                        return
                    if data:
                        yield _event(data)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        raise RemoteError(f"{self.address} broke off before the answer was complete")

    def _unreachable(self, error: httpx.HTTPError) -> RemoteError:
        return RemoteError(f"{self.address} cannot be asked ({_printable(str(error)) or type(error).__name__})")


class RemoteStream:
    """Pieces of a server's answer as they come; `reply` holds the whole once the iteration has ended."""

    def __init__(self, events: Generator[dict[str, Any], None, None]) -> None:
        self._events = events
        self._texts: list[str] = []
        self._calls: dict[int, dict[str, str]] = {}
        self._notes: list[dict[str, Any]] = []
        self._usage: Mapping[str, Any] = {}
        self._media: Sequence[Mapping[str, Any]] = ()
        self._reason = "stop"
        self._pieces = self._run()

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    @property
    def reply(self) -> Reply:
        """The whole answer; reads the rest of the stream first if there is any."""
        for _ in self._pieces:
            pass
        return Reply(
            text="".join(self._texts),
            finish_reason=self._reason,
            usage=Usage(int(self._usage.get("prompt_tokens", 0)), int(self._usage.get("completion_tokens", 0))),
            media=tuple(map(_media_use, self._media)),
            tool_calls=tuple(ToolCall(**self._calls[index]) for index in sorted(self._calls)),
            annotations=tuple(map(_annotation, self._notes)),
        )

    def close(self) -> None:
        """Stop reading; the server stops answering when the connection ends."""
        self._pieces.close()

    def _run(self) -> Generator[str, None, None]:
        try:
            for event in self._events:
                self._usage = event.get("usage") or self._usage
                self._media = event.get("media") or self._media
                for choice in event.get("choices", ()):
                    self._reason = choice.get("finish_reason") or self._reason
                    yield from self._take(choice.get("delta") or {})
        finally:
            self._events.close()

    def _take(self, delta: Mapping[str, Any]) -> Iterator[str]:
        self._notes += delta.get("annotations") or ()
        for piece in delta.get("tool_calls") or ():
            call = self._calls.setdefault(piece["index"], {"name": "", "arguments": "", "id": ""})
            function = piece.get("function") or {}
            # Other servers send the arguments in pieces, and the name and the number once.
            call["name"] = function.get("name") or call["name"]
            call["arguments"] += function.get("arguments") or ""
            call["id"] = piece.get("id") or call["id"]
        if delta.get("content"):
            self._texts.append(delta["content"])
            yield delta["content"]


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message["content"]
    return {**message, "content": content if isinstance(content, str) else [_part(part) for part in content]}


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    """Pictures and videos are sent along, wherever they lie: a server reads no paths and rarely fetches addresses."""
    kind = part["type"]
    if kind not in ("image", "video"):
        return dict(part)
    rest = {key: value for key, value in part.items() if key not in ("type", kind)}
    pictures = folder_pictures(part[kind], DEFAULT_LIMITS) if kind == "video" else None
    if pictures is not None:
        return {"type": "video", "video": [_data_url(path, "image") for path in pictures], **rest}
    return {"type": f"{kind}_url", f"{kind}_url": {"url": _data_url(part[kind], kind)}, **rest}


def _data_url(source: str, kind: str) -> str:
    name, data = read_source(source, DEFAULT_LIMITS, {"image": "picture"}.get(kind, kind))
    known = mimetypes.guess_type(name)[0] or {"image": "image/png"}.get(kind, "video/mp4")
    return f"data:{known};base64,{base64.b64encode(data).decode()}"


def _event(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError as error:
        raise RemoteError("the server sent something that is not JSON") from error
    if not isinstance(event, dict):
        raise RemoteError("the server sent something that is not an answer")
    if event.get("error"):
        raise RemoteError(f"the server says: {_sentence(event)}")
    return event


def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        said = _sentence(response.json())
    except ValueError:
        said = response.reason_phrase
    raise RemoteError(f"the server says: {said or 'no reason given'} (status {response.status_code})")


def _sentence(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    return _printable(str(error.get("message") if isinstance(error, dict) else error or ""))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text).rstrip(" .")


def _media_use(item: Mapping[str, Any]) -> MediaUse:
    pairs = {name: tuple(item[name]) for name in ("original_size", "size", "times") if item.get(name) is not None}
    return MediaUse(**{**item, **pairs, "grid": Grid(*item["grid"])})


def _annotation(item: Mapping[str, Any]) -> Annotation:
    pixels = tuple(map(float, item[item["type"]]))
    relative = tuple(map(int, item.get("relative", ())))
    return Annotation(item["type"], item.get("label", ""), item.get("image", 0), relative, pixels)
