"""Where the bytes of a picture or video come from: a path, a file: address, a data: address or bytes (facts, 11.3)."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from typing import IO, Union
from urllib.parse import unquote

from clearsight.media.limits import MediaError, MediaLimits, check_bytes
from clearsight.media.remote import fetch

ByteSource = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview]

NAMELESS = "picture"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_SHOWN = 80


def read_source(source: ByteSource, limits: MediaLimits, what: str = NAMELESS) -> tuple[str, bytes]:
    """The name of a picture, as messages show it, and its encoded bytes. Raises MediaError.

    what: what is meant to be there, as messages call it.
    """
    path = local_path(source)
    if path is not None:
        name, file = _open_file(path, limits, what)
        with file:
            # One byte more than allowed, because a file may grow after its size was looked up.
            data = file.read(limits.max_file_bytes + 1)
        check_bytes(len(data), name, limits)
        return name, data
    if isinstance(source, (bytes, bytearray, memoryview)):
        view = memoryview(source)
        check_bytes(view.nbytes, what, limits)
        return what, bytes(view)
    assert isinstance(source, str)
    scheme = _scheme(source)
    if scheme == "data":
        return what, _read_data_url(source, limits, what)
    if is_remote(source):
        name, pieces = _fetch(source, limits, what)
        return name, b"".join(pieces)
    raise MediaError(f"{shorten(source)}: addresses of kind {scheme}: are not supported; give a path or a file")


def open_source(source: ByteSource, limits: MediaLimits, what: str) -> tuple[str, IO[bytes]]:
    """The name of a video and its encoded bytes as an open file: a local file itself, all else in one without a name.

    An address is fetched into that file piece by piece, so memory does not grow with it. Raises MediaError.
    """
    path = local_path(source)
    if path is not None:
        return _open_file(path, limits, what)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile())
        if isinstance(source, str) and is_remote(source):
            name, pieces = _fetch(source, limits, what)
        else:
            name, data = read_source(source, limits, what)
            pieces = iter([data])
        file.writelines(pieces)
        file.flush()
        stack.pop_all()
    return name, file


def local_path(source: ByteSource) -> str | None:
    """The path that `source` names on this machine, or None for bytes and other addresses."""
    if isinstance(source, os.PathLike):
        return os.fsdecode(source)
    if not isinstance(source, str):
        return None
    scheme = _scheme(source)
    return source if scheme is None else _file_url_path(source) if scheme == "file" else None


def is_remote(source: object) -> bool:
    """Whether `source` is an address that must be fetched."""
    return isinstance(source, str) and _scheme(source) in ("http", "https")


def shorten(text: str) -> str:
    """Short enough for a message, and without characters that would break its line."""
    shown = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    return "".join(char if char.isprintable() else "?" for char in shown)


def _scheme(source: str) -> str | None:
    """data: needs no slashes; any other word before a colon is an address only with them, so c:/x stays a path."""
    match = _SCHEME.match(source)
    if match is None:
        return None
    scheme = match[1].lower()
    return scheme if scheme in ("data", "file") or source[match.end() :].startswith("//") else None


def _fetch(url: str, limits: MediaLimits, what: str) -> tuple[str, Iterator[bytes]]:
    name = shorten(url)
    if not limits.allow_remote:
        raise MediaError(f"{name}: remote {what}s are not fetched here; send the {what} itself as a data: address")
    return name, fetch(url, name, limits)


def _file_url_path(url: str) -> str:
    path = url[len("file:") :]
    if path.startswith("//"):
        path = path[2:]
        if path.lower().startswith("localhost/"):
            path = path[len("localhost") :]
    return unquote(path)


def _open_file(path: str, limits: MediaLimits, what: str) -> tuple[str, IO[bytes]]:
    """The name and the open file of a local path that may be read here."""
    name = shorten(os.path.basename(path) or path or what)
    if not limits.allow_files:
        path = under_root(path, name, limits, what)
    try:
        file = open(path, "rb", opener=open_at_once)  # noqa: SIM115  (the caller closes it)
    except FileNotFoundError:
        raise MediaError(f"{name}: there is no such file ({shorten(path)!r})") from None
    except IsADirectoryError:
        raise MediaError(f"{name}: it is a directory, not a {what}") from None
    except OSError as error:
        raise MediaError(f"{name}: it cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise MediaError(f"{name}: its path cannot be used ({error})") from error
    try:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(f"{name}: it is not a regular file")
        check_bytes(status.st_size, name, limits)
    except BaseException:
        file.close()
        raise
    return name, file


def under_root(path: str, name: str, limits: MediaLimits, what: str) -> str:
    """The real path of what lies in the folder that may be named; links that lead out of it are refused."""
    if limits.media_root is None:
        raise MediaError(f"{name}: local files are not allowed here; send the {what} itself as a data: address")
    root = os.path.realpath(limits.media_root)
    try:
        real = os.path.realpath(os.path.join(root, path))
    except ValueError as error:
        raise MediaError(f"{name}: its path cannot be used ({error})") from error
    if os.path.commonpath((root, real)) != root:
        raise MediaError(f"{name}: it does not lie in the folder that is open here")
    return real


def open_at_once(path: str, flags: int) -> int:
    """Opening a pipe must not wait for a writer before it can be refused."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def _read_data_url(url: str, limits: MediaLimits, what: str) -> bytes:
    """Decode data:[kind];base64,...; the stated kind is ignored, the content decides."""
    head, comma, body = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise MediaError(f"{what}: a data: address must hold ';base64,'; found {shorten(head)!r}")
    body = "".join(body.split())
    # Four letters carry three bytes, so a text too long is refused before it is decoded.
    check_bytes(max(0, len(body) * 3 // 4 - body[-2:].count("=")), what, limits)
    try:
        return base64.b64decode(body, validate=True)
    except ValueError as error:
        raise MediaError(f"{what}: the base64 text of its data: address is damaged ({error})") from None
