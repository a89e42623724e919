"""Pictures by address: fetched once, bounded in bytes and time, and no way out to files or other protocols."""

from __future__ import annotations

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pytest
from PIL import Image

from clearsight.media import MediaError, MediaLimits, load, open_picture
from clearsight.media.remote import _is_public


def png() -> bytes:
    memory = BytesIO()
    Image.new("RGB", (40, 30), (10, 200, 30)).save(memory, "PNG")
    return memory.getvalue()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.seen.append(self.path)
        if self.path == "/picture":
            return self.answer(200, png())
        if self.path.startswith("/to/"):
            return self.answer(302, b"", Location=self.path.removeprefix("/to/"))
        if self.path == "/slow-head":
            for _ in range(40):
                self.wfile.write(b"X")
                time.sleep(0.1)
            return None
        if self.path == "/drip":
            self.send_response(200)
            self.end_headers()
            for _ in range(40):
                self.wfile.write(b"x")
                time.sleep(0.1)
            return None
        return self.answer(404, b"nothing here")

    def answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client leaves, as it should
            super().handle()


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.seen = []
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def address(server):
    return f"http://127.0.0.1:{server.server_port}"


def test_a_picture_is_fetched_once_and_decoded(server, address):
    server.seen.clear()
    picture = open_picture(f"{address}/picture")
    assert picture.header[1:] == (40, 30)
    assert picture.decode().getpixel((5, 5)) == (10, 200, 30)
    assert server.seen == ["/picture"]
    assert load(f"{address}/to//picture").size == (40, 30)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/missing", "its server answered 404"),
        ("/to/file:///etc/hostname", "its server answered 302"),
        ("/to/ftp://127.0.0.1/x", "could not be fetched"),
        ("/to/data:image/png;base64,AAAA", "its server answered 302"),
    ],
)
def test_what_cannot_be_fetched_is_one_sentence(address, path, words):
    with pytest.raises(MediaError, match=words) as caught:
        load(address + path)
    assert "\n" not in str(caught.value)


def test_too_many_redirects_end(address):
    with pytest.raises(MediaError, match="its server answered 302"):
        load(f"{address}/to/" * 9 + f"{address}/picture")


def test_bytes_and_time_are_bounded(address):
    size = len(png())
    assert load(f"{address}/picture", MediaLimits(max_file_bytes=size)).size == (40, 30)
    with pytest.raises(MediaError, match=f"{size} bytes; the limit is {size - 1}"):
        load(f"{address}/picture", MediaLimits(max_file_bytes=size - 1))
    with pytest.raises(MediaError, match=r"longer than the limit of 0\.3 seconds"):
        load(f"{address}/drip", MediaLimits(fetch_seconds=0.3))
    with pytest.raises(MediaError, match=r"longer than the limit of 0\.3 seconds"):
        load(f"{address}/slow-head", MediaLimits(fetch_seconds=0.3))


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("8.8.8.8", True), ("127.0.0.1", False), ("10.1.2.3", False), ("100.64.0.1", False), ("169.254.169.254", False),
        ("0.0.0.0", False), ("224.0.0.1", False), ("2606:4700::1", True), ("::1", False), ("fe80::1%eth0", False),
        ("fc00::1", False), ("::ffff:127.0.0.1", False), ("64:ff9b::7f00:1", False), ("64:ff9b::808:808", True),
        ("::7f00:1", False), ("2002:7f00:1::", False), ("2001::1", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(text, public):
    assert _is_public(text) is public


def test_nobody_listening_and_no_host(server):
    with pytest.raises(MediaError, match="could not be fetched"):
        load("http://127.0.0.1:1/cat.png")
    with pytest.raises(MediaError, match="names no host"):
        load("http:///cat.png")


def test_an_edge_can_switch_it_off(server, address):
    server.seen.clear()
    with pytest.raises(MediaError, match="not fetched here"):
        load(f"{address}/picture", MediaLimits(allow_remote=False))
    assert server.seen == []
