"""Pictures and videos at http and https addresses that the user names: bounded in bytes and in time."""

from __future__ import annotations

import ipaddress
import socket
import ssl
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


def _connect(host: str, port: int, timeout: float | None, limits: MediaLimits) -> socket.socket:
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
        connection.settimeout(timeout)
        try:
            connection.connect(address)
        except OSError:
            connection.close()
            continue
        return connection
    raise OSError(f"{host} cannot be reached")


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    return address.is_global and not address.is_multicast and (inner is None or inner.is_global)


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, limits: MediaLimits) -> None:
        super().__init__()
        self._limits = limits

    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_connection_class(HTTPConnection, self._limits), req)


class _Secure(urllib.request.HTTPSHandler):
    def __init__(self, limits: MediaLimits) -> None:
        super().__init__(context=ssl.create_default_context())
        self._limits = limits

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_connection_class(HTTPSConnection, self._limits), req)


def _connection_class(base: type[HTTPConnection], limits: MediaLimits) -> type[HTTPConnection]:
    """`base` with a `connect` that checks where it goes."""

    class Checked(base):  # type: ignore[valid-type, misc]
        def connect(self) -> None:
            self.sock = _connect(self.host, self.port, self.timeout, limits)
            if isinstance(self, HTTPSConnection):
                self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)

    return Checked


def _opener(limits: MediaLimits) -> urllib.request.OpenerDirector:
    """Speaks http and https alone: a redirect cannot lead to a file or to another protocol.

    Where addresses are checked, no proxy stands between: it would do the look-up again.
    """
    checked = limits.public_only or limits.allowed_hosts is not None
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler({} if checked else None),
        _Plain(limits),
        _Secure(limits),
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
    deadline, count = time.monotonic() + limits.fetch_seconds, 0
    try:
        with _opener(limits).open(url, timeout=limits.fetch_seconds) as response:
            while chunk := response.read1(min(_CHUNK, limits.max_file_bytes + 1 - count)):
                count += len(chunk)
                yield chunk
                if time.monotonic() > deadline:
                    raise TimeoutError
    except urllib.error.HTTPError as error:
        error.close()
        raise MediaError(f"{name}: its server answered {error.code} {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            reason = f"it took longer than the limit of {limits.fetch_seconds:g} seconds"
        raise MediaError(f"{name}: it could not be fetched ({reason})") from error
    check_bytes(count, name, limits)
