"""Pictures at http and https addresses that the user names: bounded in bytes and in time."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit

from clearsight.media.limits import MediaError, MediaLimits, check_bytes

_CHUNK = 1 << 16


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = 5


def _opener() -> urllib.request.OpenerDirector:
    """Speaks http and https alone: a redirect cannot lead to a file or to another protocol."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "clearsight"), ("Accept", "image/*")]
    return opener


def fetch(url: str, name: str, limits: MediaLimits) -> bytes:
    """The bytes at `url`. Raises MediaError if it cannot be reached, is too long, or takes too long."""
    if not urlsplit(url).hostname:
        raise MediaError(f"{name}: the address names no host")
    deadline = time.monotonic() + limits.fetch_seconds
    try:
        with _opener().open(url, timeout=limits.fetch_seconds) as response:
            data = bytearray()
            while chunk := response.read1(min(_CHUNK, limits.max_file_bytes + 1 - len(data))):
                data += chunk
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
    check_bytes(len(data), name, limits)
    return bytes(data)
