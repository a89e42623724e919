"""Hostile and careless clients: each is refused with a 4xx, and the server serves on with flat memory."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_server import CLOSED, running
from PIL import Image

from clearsight.engine import EngineSettings
from clearsight.media import MediaError, MediaLimits, open_picture
from clearsight.media.remote import fetch
from clearsight.media.sandbox import Sandbox
from clearsight.server import ServerSettings, create_app
from clearsight.vlm import VLM

LIMITS = replace(CLOSED, max_pixels=4_000_000)


@pytest.fixture(scope="module")
def web():
    """One client for all requests: making one costs more than asking."""
    with httpx.Client(timeout=30) as found:
        yield found


@pytest.fixture(scope="module")
def address():
    wishes = ServerSettings(
        names=("nano",), max_body_bytes=2**24, body_seconds=1.0, header_seconds=0.5, send_seconds=0.5, max_remote=2
    )
    with running(wishes, media=LIMITS) as found:
        yield found


def encoded(picture, kind="PNG"):
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def as_url(data):
    return "data:image/png;base64," + base64.b64encode(data).decode()


def body(url, text="What?"):
    part = {"type": "image_url", "image_url": {"url": url}}
    return {"model": "nano", "messages": [{"role": "user", "content": [part, {"type": "text", "text": text}]}]}


def bomb(width=30_000, height=30_000):
    """A small file that declares hundreds of megapixels."""
    picture = encoded(Image.new("1", (8, 8)))
    header = picture[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + picture[24:29]
    return header + zlib.crc32(header[12:29]).to_bytes(4, "big") + picture[33:]


GOOD = encoded(Image.new("RGB", (60, 60), "red"))
BAD_URLS = [
    as_url(bomb()),
    as_url(bomb(1900, 1900)),  # within the limit, but there are no pixels behind it
    as_url(GOOD[: len(GOOD) // 2]),
    as_url(b""),
    as_url(b"<svg/>"),
    as_url(bytes(range(256)) * 20),
    "data:image/png;base64,@@@",
    "data:image/png," + "x" * 100,
    "http://127.0.0.1:1/x.png",
    "http://169.254.169.254/latest/meta-data",
    "https://example.org/cat.png",
    "file:///etc/passwd",
    "/etc/passwd",
    "../../etc/passwd",
    "gopher://x/y",
    "\x00",
]


@pytest.mark.parametrize("url", BAD_URLS, ids=range(len(BAD_URLS)))
def test_bad_pictures_are_refused(web, address, url):
    answer = web.post(f"{address}/v1/chat/completions", json=body(url))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "invalid_image"
    assert "\n" not in error["message"]
    assert "Traceback" not in answer.text


BODIES = [
    b"", b"{", b"\xff\xfe{}", b"[]", b"null", b'"x"', b"[" * 100_000,
    b'{"model": "nano", "messages": ' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"model": "nano", "messages": [{"role": "user", "content": "' + b"\xc3\x28" + b'"}]}',
    b'{"model": "nano", "messages": [{"role": "user", "content": 3}]}',
    b'{"model": "nano", "messages": [{"role": "user", "content": [[]]}]}',
    b'{"model": "nano", "messages": [{"content": "x"}]}', b'{"model": "nano", "messages": [3]}',
    b'{"model": "nano", "messages": "x"}', b'{"model": 1e999, "messages": []}',
    b'{"model": "nano", "messages": [{"role": "tool", "content": "x"}], "tools": [{"type": "function"}]}',
]  # fmt: skip


@pytest.mark.parametrize("content", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/count"])
def test_bad_bodies_are_refused(web, address, content, path):
    answer = web.post(address + path, content=content, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("wish", [b'"temperature": "NaN"', b'"seed": 1e40', b'"n": 1e9', b'"stop": [""]'])
def test_numbers_out_of_bounds_are_refused(web, address, wish):
    content = b'{"model": "nano", "messages": [{"role": "user", "content": "x"}], ' + wish + b"}"
    answer = web.post(f"{address}/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


def test_unknown_paths_and_methods_have_the_same_form(web, address):
    for method, path, status in (("GET", "/v1/nothing", 404), ("GET", "/v1/chat/completions", 405)):
        answer = web.request(method, address + path)
        assert answer.status_code == status
        assert answer.json()["error"]["message"]


def test_long_slow_and_torn_requests(web, address):
    answer = web.post(f"{address}/v1/chat/completions", content=b"x" * (2**24 + 1))
    assert answer.status_code == 413
    assert "the limit is 16777216" in answer.json()["error"]["message"]
    host, port = address.removeprefix("http://").split(":")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n".encode()
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(head + b"Content-Length: 100\r\n\r\n{")
        assert b" 408 " in slow.recv(4096)
    with socket.create_connection((host, int(port))) as flood:
        flood.sendall(chunked)
        # The server may hang up while we are still sending.
        with contextlib.suppress(OSError):
            for _ in range(300):
                flood.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        assert b" 413 " in flood.recv(4096)
    with socket.create_connection((host, int(port))) as torn:
        torn.sendall(head + b"Content-Length: 100\r\n\r\n{")
    assert web.get(f"{address}/health").status_code == 200


def metric(address, name):
    text = httpx.get(f"{address}/metrics").text
    return float(next(line for line in text.splitlines() if line.startswith(f"clearsight_{name} ")).split()[1])


def test_leaving_in_mid_stream_frees_everything(address):
    wish = {"model": "nano", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5000, "stream": True}
    # So random that it neither ends nor repeats itself, which is ended.
    wish |= {"logit_bias": {"1012": -100, "1010": -100}, "temperature": 2.0}
    for _ in range(5):
        with httpx.stream("POST", f"{address}/v1/chat/completions", json=wish) as answer:
            next(answer.iter_lines())
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{address}/v1/chat/completions", json={**wish, "stream": False}, timeout=0.3)
    deadline = time.time() + 20
    while metric(address, "running") or metric(address, "kv_bytes_used"):
        assert time.time() < deadline, "the requests of clients that left still run"
        time.sleep(0.1)


def test_memory_is_flat_under_a_barrage(web, address):
    def barrage():
        for url in BAD_URLS:
            web.post(f"{address}/v1/chat/completions", json=body(url))
        web.post(f"{address}/v1/chat/completions", json=body(as_url(GOOD)))

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    for _ in range(3):
        barrage()
    before = resident()
    for _ in range(12):
        barrage()
    assert resident() - before < 30 * 2**20


@pytest.fixture(scope="module")
def patient():
    """Sixty-four bodies at once take a slow machine longer to read than a slow sender is given above."""
    with running(ServerSettings(names=("nano",))) as found:
        yield found


def test_sixty_four_streaming_clients_get_their_own_answers(patient):
    pictures = [Image.open("examples/sign.png"), Image.open("examples/circle.png")]
    questions = ("What does it say?", "What is this?", "Read the text.", "How many shapes are there?")
    kinds = [(as_url(encoded(picture)), question) for picture in pictures for question in questions]

    async def ask(client, kind):
        url, question = kind
        stream = await client.chat.completions.create(**body(url, question), stream=True, max_tokens=24)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def main():
        async with openai.AsyncOpenAI(base_url=f"{patient}/v1", api_key="none", max_retries=0) as client:
            alone = [await ask(client, kind) for kind in kinds]
            return alone, await asyncio.gather(*(ask(client, kinds[index % 8]) for index in range(64)))

    alone, together = asyncio.run(main())
    assert together == alone * 8


ENDLESS = {"model": "nano", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3000, "stream": True}
ENDLESS |= {"logit_bias": {"1012": -100, "1010": -100}, "temperature": 2.0}


@contextlib.contextmanager
def talking(address):
    """A stream that is under way."""
    with httpx.stream("POST", f"{address}/v1/chat/completions", json=ENDLESS, timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)
        yield lines


def test_overload_is_told_to_come_back():
    with running(ServerSettings(names=("nano",), max_in_flight=2)) as address, talking(address), talking(address):
        third = httpx.post(f"{address}/v1/chat/completions", json=ENDLESS)
        assert third.status_code == 429
        assert int(third.headers["Retry-After"]) >= 1
        assert third.json()["error"]["type"] == "rate_limit_error"
    with running(ServerSettings(names=("nano",)), EngineSettings(max_running=1, max_waiting=1)) as address:
        wish = {**ENDLESS, "stream": False, "max_tokens": 1}
        answers = []

        def ask():
            answers.append(httpx.post(f"{address}/v1/chat/completions", json=wish, timeout=30).status_code)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        with talking(address):
            for thread in threads:
                thread.start()
            time.sleep(1)
        for thread in threads:
            thread.join()
        assert set(answers) == {200, 429}


@contextlib.contextmanager
def serving(*options):
    """`clearsight serve` as a user starts it: its address, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "clearsight", "serve", "--port", str(port), *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        deadline = time.time() + 60
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/health")
                break
            except httpx.TransportError:
                assert time.time() < deadline
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.kill()
        output = server.communicate()[0].decode()
    assert "Traceback" not in output


def test_a_stopped_server_lets_answers_end_and_tells_those_that_cannot():
    short = {"model": "nano", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20, "stream": True}
    with serving("--grace-seconds", "3") as (address, server), contextlib.ExitStack() as stack:
        streams = []
        for wish in (short, {**ENDLESS, "max_tokens": 8000}):
            post = httpx.stream("POST", f"{address}/v1/chat/completions", json=wish, timeout=60)
            streams.append(stack.enter_context(post).iter_lines())
            next(streams[-1])
        server.send_signal(signal.SIGTERM)
        ends = [[line for line in lines if line][-1] for lines in streams]
        assert ends[0] == "data: [DONE]"
        assert ends[1] == "data: [DONE]" or "the engine is shutting down" in ends[1]
        assert server.wait(20) in (0, -signal.SIGTERM)


# --- decoding in another process ---------------------------------------------------------------------------


def test_the_sandbox_decodes_what_the_process_itself_would():
    box = Sandbox(LIMITS, workers=1)
    for kind, mode in (("PNG", "RGBA"), ("JPEG", "L"), ("GIF", "P"), ("WEBP", "RGB")):
        picture = Image.effect_noise((70, 40), 50).convert(mode)
        opened = open_picture(encoded(picture, kind))
        assert box.decode(opened).tobytes() == open_picture(encoded(picture, kind)).decode().tobytes()
    with pytest.raises(MediaError, match="picture: it cannot be decoded"):
        box.decode(open_picture(as_url(bomb(1900, 1900)), LIMITS))
    assert box.decode(open_picture(GOOD)).size == (60, 60)
    box.close()


def test_a_worker_that_dies_or_hangs_is_replaced():
    box = Sandbox(LIMITS, workers=1, seconds=5)
    picture = open_picture(GOOD)
    box.decode(picture)
    worker = box._idle.get()
    worker.process.kill()
    worker.process.wait()
    box._idle.put(worker)
    assert box.decode(picture).size == (60, 60)
    worker = box._idle.get()
    worker.process.send_signal(signal.SIGSTOP)
    box._idle.put(worker)
    box._seconds = 0.3
    with pytest.raises(MediaError, match=r"longer than the limit of 0\.3 seconds"):
        box.decode(picture)
    box._seconds = 20
    assert box.decode(picture).size == (60, 60)
    box.close()


# --- addresses ---------------------------------------------------------------------------------------------


class Redirecting(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/picture":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(GOOD)
        else:
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def pictures():
    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


def test_only_public_addresses_or_named_hosts(pictures):
    anywhere, public = MediaLimits(), MediaLimits(public_only=True)
    local = MediaLimits(allowed_hosts=("localhost",))
    port = pictures.rpartition(":")[2]
    assert b"".join(fetch(f"{pictures}/picture", "p", anywhere)) == GOOD
    assert b"".join(fetch(f"{pictures}/picture", "p", local)) == GOOD
    hosts = ("localhost", "127.0.0.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "user@127.0.0.1")
    for host in hosts:
        with pytest.raises(MediaError, match=r"is not a public one|Name or service not known"):
            list(fetch(f"http://{host}:{port}/picture", "p", public))
    with pytest.raises(MediaError, match=r"the host 127\.0\.0\.1 is not one of those allowed here"):
        list(fetch(f"{pictures}/to/http://127.0.0.1:{port}/picture", "p", local))
    with pytest.raises(MediaError, match="is not allowed"):
        list(fetch(f"{pictures}/to/file:///etc/passwd", "p", local))


def test_only_files_under_the_open_folder(tmp_path):
    root = tmp_path / "open"
    root.mkdir()
    (root / "a.png").write_bytes(GOOD)
    (tmp_path / "secret.png").write_bytes(GOOD)
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    limits = MediaLimits(allow_files=False, media_root=str(root))
    assert open_picture("a.png", limits).header.width == 60
    assert open_picture(str(root / "a.png"), limits).header.width == 60
    for path in ("link.png", "../secret.png", str(tmp_path / "secret.png"), f"file://{tmp_path}/secret.png"):
        with pytest.raises(MediaError, match="does not lie in the folder"):
            open_picture(path, limits)


# --- the document itself -----------------------------------------------------------------------------------


def test_the_document_names_what_breaks_nothing():
    """Requests made up from our own OpenAPI document: each answer is one that the document foresees, none a failure."""
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    app = create_app(VLM.load("nano", media_limits=LIMITS), ServerSettings(names=("nano",), default_max_tokens=4))
    for operation in schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations():
        as_foreseen(operation.ok(), checks)


def as_foreseen(operation, checks):
    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(), known=st.booleans())
    def run(case, known):
        # Made-up names and messages are nearly all refused; half of the cases shall get further than that.
        if known and isinstance(case.body, dict):
            real = {"model": "nano", "messages": [{"role": "user", "content": "Hi"}]}
            case.body |= {name: value for name, value in real.items() if name in case.body}
        case.call_and_validate(checks=checks)

    run()
