"""Pictures and videos at http and https addresses that the user names: bounded in bytes and in time."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

from clearsight.media.limits import MediaError, MediaLimits, check_bytes

_CHUNK = 1 << 16


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = 5


class _Deadline:
    """Ends a fetch when its time is up, whatever it waits for: a time limit on single reads bounds no slow trickle."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._strike)
        self._timer.daemon = True
        self._socket: socket.socket | None = None
        self.passed = False

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    @property
    def left(self) -> float:
        """Seconds, above 0."""
        return max(self._end - time.monotonic(), 0.01)

    def watch(self, connection: socket.socket) -> None:
        self._socket = connection

    def _strike(self) -> None:
        self.passed = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


def _connect(host: str, port: int, deadline: _Deadline, limits: MediaLimits) -> socket.socket:
    """Look the host up once, check what was found, and connect to that very address.

    Every connection comes through here, those that redirects lead to as well, so no second look-up can differ.
    """
    if limits.allowed_hosts is not None and host.lower() not in (name.lower() for name in limits.allowed_hosts):
        raise OSError(f"the host {host} is not one of those allowed here")
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, address in found:
        if limits.public_only and not _is_public(str(address[0])):
            raise OSError(f"the address of {host} is not a public one")
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(deadline.left)
        try:
            connection.connect(address)
        except OSError:
            connection.close()
            continue
        return connection
    raise OSError(f"{host} cannot be reached")


_WRAPPING = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("::/96"))
"""IPv6 addresses that hold an IPv4 address in their last 32 bits, which a translator on the way may connect to."""


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    if any(address in network for network in _WRAPPING):
        inner = ipaddress.IPv4Address(int(address) % 2**32)
    return address.is_global and not address.is_multicast and (inner is None or inner.is_global)


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, limits: MediaLimits, deadline: _Deadline) -> None:
        super().__init__()
        self._checks = limits, deadline

    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_connection_class(HTTPConnection, *self._checks), req)


class _Secure(urllib.request.HTTPSHandler):
    def __init__(self, limits: MediaLimits, deadline: _Deadline) -> None:
        super().__init__(context=ssl.create_default_context())
        self._checks = limits, deadline

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_connection_class(HTTPSConnection, *self._checks), req)


def _connection_class(base: type[HTTPConnection], limits: MediaLimits, deadline: _Deadline) -> type[HTTPConnection]:
    """`base` with a `connect` that checks where it goes."""

    class Checked(base):  # type: ignore[valid-type, misc]
        def connect(self) -> None:
            self.sock = _connect(self.host, self.port, deadline, limits)
            deadline.watch(self.sock)
            if isinstance(self, HTTPSConnection):
                context = ssl.create_default_context()
                self.sock = context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
                deadline.watch(self.sock)
                self.sock.do_handshake()

    return Checked


def _opener(limits: MediaLimits, deadline: _Deadline) -> urllib.request.OpenerDirector:
    """Speaks http and https alone: a redirect cannot lead to a file or to another protocol.

    Where addresses are checked, no proxy stands between: it would do the look-up again.
    """
    checked = limits.public_only or limits.allowed_hosts is not None
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler({} if checked else None),
        _Plain(limits, deadline),
        _Secure(limits, deadline),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "clearsight"), ("Accept", "image/*, video/*")]
    return opener


def fetch(url: str, name: str, limits: MediaLimits) -> Iterator[bytes]:
    """The bytes at `url`, piece by piece. Raises MediaError if it cannot be reached, is too long, or takes too long."""
    if not urlsplit(url).hostname:
        raise MediaError(f"{name}: the address names no host")
    count = 0
    with _Deadline(limits.fetch_seconds) as deadline:
        try:
            with _opener(limits, deadline).open(url, timeout=limits.fetch_seconds) as response:
                while chunk := response.read1(min(_CHUNK, limits.max_file_bytes + 1 - count)):
                    count += len(chunk)
                    yield chunk
                if deadline.passed:
                    raise TimeoutError
        except urllib.error.HTTPError as error:
            error.close()
            raise MediaError(f"{name}: its server answered {error.code} {error.reason}") from None
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            if deadline.passed or isinstance(reason, TimeoutError):
                reason = f"it took longer than the limit of {limits.fetch_seconds:g} seconds"
            raise MediaError(f"{name}: it could not be fetched ({reason})") from error
    check_bytes(count, name, limits)
