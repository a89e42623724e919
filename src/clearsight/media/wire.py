"""Messages between a sandbox and its workers over a socket: a JSON object, bytes, and at most one open file."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, NamedTuple

_HEAD = struct.Struct("<IQ")  # lengths of the JSON text and of the bytes
_LONGEST_TEXT = 2**20
_PIECE = 2**20


class FilmHeader(NamedTuple):
    """width and height: upright pixels. frames, fps: of a variable frame rate the average; duration in seconds."""

    width: int
    height: int
    frames: int
    fps: float
    duration: float


def send(channel: socket.socket, data: dict[str, Any], body: bytes = b"", file: int | None = None) -> None:
    """One message; file: a descriptor that the other side gets a copy of. Raises OSError."""
    text = json.dumps(data).encode()
    head = _HEAD.pack(len(text), len(body))
    if file is None:
        channel.sendall(head + text)
    else:
        sent = socket.send_fds(channel, [head + text], [file])
        channel.sendall((head + text)[sent:])
    channel.sendall(body)


def receive(channel: socket.socket) -> tuple[dict[str, Any], bytearray, int | None]:
    """The next message. Raises EOFError when the other side has gone, OSError, or ValueError for what is no message."""
    head, files, _, _ = socket.recv_fds(channel, _HEAD.size, 1)
    head += _exactly(channel, _HEAD.size - len(head)) if head else b""
    if not head:
        raise EOFError
    text_length, body_length = _HEAD.unpack(head)
    if text_length > _LONGEST_TEXT:
        raise ValueError(f"a message of {text_length} bytes")
    data = json.loads(_exactly(channel, text_length))
    return data, _exactly(channel, body_length), files[0] if files else None


def _exactly(channel: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        got = channel.recv_into(view[done : done + _PIECE])
        if not got:
            raise EOFError
        done += got
    return data
